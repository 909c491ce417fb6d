#include <fmt/format.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "ctl/render/text.h"
#include "ctl/render/utf8.h"
#include "ctl/render/words.h"

namespace supervisor {
namespace {

using Align = Table::Align;
using Fit = Table::Fit;

std::string SpanLine(std::string_view span, uint32_t checks, double success_rate, double p50, double p95) {
  if (checks == 0) {
    return {};
  }
  std::string line = fmt::format("  over the last {}: {} of {} check{} succeeded", span, CpuText(success_rate), checks,
                                 checks == 1 ? "" : "s");
  if (p50 > 0 || p95 > 0) {
    line += fmt::format(", response time: median {}, 95% below {}", MillisecondsText(p50), MillisecondsText(p95));
  }
  return line + "\n";
}

std::string Detail(const v1::ServiceHealth& service, bool color, size_t width) {
  std::string out = fmt::format("\n{}\n", Colored(EscapeForTerminal(service.id()), Color::kBold, color));
  if (service.check_type().empty()) {
    return out + "  has no health check\n";
  }
  out += SpanLine("hour", service.checks_hour(), service.success_rate_hour(), service.p50_ms_hour(),
                  service.p95_ms_hour());
  out += SpanLine("day", service.checks_day(), service.success_rate_day(), service.p50_ms_day(), service.p95_ms_day());
  if (service.history().empty()) {
    return out + "  no check has ended yet\n";
  }
  Table table({{.header = "TIME (UTC)"},
               {.header = "RESULT"},
               {.header = "RESPONSE", .align = Align::kRight},
               {.header = "MESSAGE", .fit = Fit::kCut}});
  for (const v1::HealthResult& result : service.history()) {
    table.AddRow({TimeText(result.timestamp_unix_ms()),
                  {std::string(HealthWord(result.health())), HealthColor(result.health())},
                  MillisecondsText(result.response_time_ms()),
                  result.message()});
  }
  return out + table.Render(color, "  ", width);
}

}  // namespace

std::string HealthText(const v1::HealthResponse& response, bool detailed, bool color, size_t width) {
  if (response.services().empty()) {
    return "No services are configured.\n";
  }
  Table table({{.header = "SERVICE"},
               {.header = "HEALTH"},
               {.header = "CHECK", .fit = Fit::kDrop, .rank = 3},
               {.header = "LAST CHECK (UTC)", .fit = Fit::kDrop, .rank = 1},
               {.header = "RESPONSE", .align = Align::kRight, .fit = Fit::kDrop, .rank = 2},
               {.header = "SUCCESS", .align = Align::kRight, .fit = Fit::kDrop, .rank = 4},
               {.header = "FAILURES", .align = Align::kRight, .fit = Fit::kDrop, .rank = 0},
               {.header = "MESSAGE", .fit = Fit::kCut}});
  for (const v1::ServiceHealth& service : response.services()) {
    const bool checked = service.last_check_unix_ms() != 0;
    table.AddRow({service.id(),
                  {std::string(HealthWord(service.health())), HealthColor(service.health())},
                  service.check_type().empty() ? "-" : service.check_type(),
                  TimeText(service.last_check_unix_ms()),
                  checked ? MillisecondsText(service.response_time_ms()) : "-",
                  checked ? CpuText(service.success_rate()) : "-",
                  fmt::format_int(service.consecutive_failures()).str(),
                  service.message()});
  }
  std::string out = table.Render(color, "", width);
  if (detailed) {
    for (const v1::ServiceHealth& service : response.services()) {
      out += Detail(service, color, width);
    }
  }
  return out;
}

}  // namespace supervisor
