#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "ctl/render/text.h"
#include "ctl/render/utf8.h"
#include "ctl/render/words.h"

namespace supervisor {

Color StateColor(v1::ServiceState state) {
  switch (state) {
    case v1::SERVICE_STATE_RUNNING:
      return Color::kGreen;
    case v1::SERVICE_STATE_STARTING:
    case v1::SERVICE_STATE_STOPPING:
    case v1::SERVICE_STATE_BACKOFF:
      return Color::kYellow;
    case v1::SERVICE_STATE_FAILED:
      return Color::kRed;
    case v1::SERVICE_STATE_STOPPED:
    case v1::SERVICE_STATE_EXITED:
    case v1::SERVICE_STATE_UNSPECIFIED:
    case v1::ServiceState_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::ServiceState_INT_MAX_SENTINEL_DO_NOT_USE_:
      return Color::kDim;
  }
  return Color::kNone;
}

Color HealthColor(v1::HealthState health) {
  switch (health) {
    case v1::HEALTH_STATE_HEALTHY:
      return Color::kGreen;
    case v1::HEALTH_STATE_UNHEALTHY:
      return Color::kRed;
    case v1::HEALTH_STATE_STARTING:
      return Color::kYellow;
    case v1::HEALTH_STATE_UNKNOWN:
    case v1::HEALTH_STATE_UNSPECIFIED:
    case v1::HealthState_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::HealthState_INT_MAX_SENTINEL_DO_NOT_USE_:
      return Color::kDim;
  }
  return Color::kNone;
}

std::string StatusText(const google::protobuf::RepeatedPtrField<v1::ServiceStatus>& services, bool color,
                       std::string_view indent, size_t width) {
  if (services.empty()) {
    return fmt::format("{}No services are configured.\n", indent);
  }
  using Align = Table::Align;
  using Fit = Table::Fit;
  std::vector<Table::Column> columns = {{.header = "SERVICE"},
                                        {.header = "STATE"},
                                        {.header = "PID", .align = Align::kRight, .fit = Fit::kDrop, .rank = 6},
                                        {.header = "UPTIME", .align = Align::kRight, .fit = Fit::kDrop, .rank = 5},
                                        {.header = "RESTARTS", .align = Align::kRight, .fit = Fit::kDrop, .rank = 4},
                                        {.header = "HEALTH"},
                                        {.header = "CPU", .align = Align::kRight, .fit = Fit::kDrop, .rank = 3},
                                        {.header = "MEMORY", .align = Align::kRight, .fit = Fit::kDrop, .rank = 2},
                                        {.header = "PORT", .align = Align::kRight, .fit = Fit::kDrop, .rank = 1}};
  const bool has_reason = std::any_of(services.begin(), services.end(),
                                      [](const v1::ServiceStatus& service) { return !service.reason().empty(); });
  const bool has_limits = std::any_of(services.begin(), services.end(),
                                      [](const v1::ServiceStatus& service) { return service.limits_size() > 0; });
  if (has_limits) {
    columns.push_back({.header = "LIMITS", .fit = Fit::kDrop});
  }
  if (has_reason) {
    columns.push_back({.header = "REASON", .fit = Fit::kCut});
  }
  Table table(std::move(columns));
  for (const v1::ServiceStatus& service : services) {
    const bool has_process = service.pid() != 0;
    const bool is_measured = has_process && service.memory_mb() > 0;  // what runs uses some, as soon as anybody looks
    std::vector<Table::Cell> row;
    row.reserve(11);
    row.emplace_back(service.id());
    row.emplace_back(std::string(StateWord(service.state())), StateColor(service.state()));
    row.emplace_back(has_process ? fmt::format_int(service.pid()).str() : "-");
    row.emplace_back(UptimeText(service.uptime_seconds()));
    row.emplace_back(fmt::format_int(service.restart_count()).str());
    row.emplace_back(std::string(HealthWord(service.health())), HealthColor(service.health()));
    row.emplace_back(is_measured ? CpuText(service.cpu_percent()) : "-");
    row.emplace_back(MemoryText(service.memory_mb()));
    row.emplace_back(service.port() != 0 ? fmt::format_int(service.port()).str() : "-");
    if (has_limits) {
      row.emplace_back(service.limits_size() > 0 ? LimitsText(service) : "-");
    }
    if (has_reason) {
      row.emplace_back(service.reason());
    }
    table.AddRow(std::move(row));
  }
  return table.Render(color, indent, width);
}

}  // namespace supervisor
