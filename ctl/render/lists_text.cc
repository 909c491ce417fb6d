#include <fmt/format.h>

#include "absl/time/time.h"
#include "common/time_format.h"
#include "common/version.h"
#include "ctl/render/text.h"
#include "ctl/render/utf8.h"
#include "ctl/render/words.h"

namespace supervisor {
namespace {

using Align = Table::Align;

Color SeverityColor(std::string_view severity) {
  if (severity == "critical") {
    return Color::kRed;
  }
  return severity == "warning" ? Color::kYellow : Color::kNone;
}

}  // namespace

std::string AlertsText(const v1::AlertsResponse& response, bool color, size_t width) {
  if (response.alerts().empty()) {
    return "No alerts.\n";
  }
  Table table({{.header = "ID", .align = Align::kRight},
               {.header = "SEVERITY"},
               {.header = "SERVICE"},
               {.header = "RULE"},
               {.header = "RAISED (UTC)", .fit = Table::Fit::kDrop, .rank = 2},
               {.header = "RESOLVED (UTC)", .fit = Table::Fit::kDrop, .rank = 1},
               {.header = "MESSAGE", .fit = Table::Fit::kCut}});
  for (const v1::Alert& alert : response.alerts()) {
    std::string message = alert.message();
    if (!alert.dependents().empty()) {
      message += " (affects";
      for (const std::string& dependent : alert.dependents()) {
        message += " " + dependent;
      }
      message += ")";
    }
    table.AddRow({fmt::format_int(alert.id()).str(),
                  {alert.severity(), SeverityColor(alert.severity())},
                  alert.service_id(),
                  alert.rule(),
                  TimeText(alert.raised_unix_ms()),
                  alert.resolved_unix_ms() == 0 ? "open" : TimeText(alert.resolved_unix_ms()),
                  message});
  }
  return table.Render(color, "", width);
}

std::string ChannelTestsText(const v1::TestNotificationsResponse& response, bool color) {
  Table table({{.header = "CHANNEL"}, {.header = "OUTCOME"}, {.header = "MESSAGE"}});
  for (const v1::ChannelTest& channel : response.channels()) {
    const bool delivered = channel.delivered();
    table.AddRow({channel.channel(),
                  {delivered ? "delivered" : "failed", delivered ? Color::kGreen : Color::kRed},
                  channel.message()});
  }
  return response.channels().empty() ? "" : table.Render(color);
}

std::string VersionText(std::string_view client_grpc_version, const v1::VersionResponse* daemon, int64_t now_unix_ms) {
  std::string out = fmt::format("supervisorctl {} (gRPC {})\n", kVersion, client_grpc_version);
  if (daemon == nullptr) {
    return out;
  }
  out += fmt::format("supervisord   {} (gRPC {}, SQLite {})\n", EscapeForTerminal(daemon->version()),
                     EscapeForTerminal(daemon->grpc_version()), EscapeForTerminal(daemon->sqlite_version()));
  const auto add = [&](std::string_view label, const std::string& value) {
    if (!value.empty()) {
      out += fmt::format("  {:<14} {}\n", label, EscapeForTerminal(value));
    }
  };
  add("pid", fmt::format("{}{}", daemon->pid(),
                         daemon->guardian_pid() != 0 ? fmt::format(", guardian {}", daemon->guardian_pid()) : ""));
  if (daemon->started_unix_ms() != 0) {
    add("started", fmt::format("{} UTC, {} ago", TimeText(daemon->started_unix_ms()),
                               FormatSpan(absl::Milliseconds(now_unix_ms - daemon->started_unix_ms()))));
  }
  add("configuration", daemon->config_file());
  add("database", daemon->database());
  add("kernel", daemon->kernel());
  return out;
}

}  // namespace supervisor
