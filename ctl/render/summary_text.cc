#include <fmt/format.h>

#include "ctl/render/text.h"
#include "ctl/render/utf8.h"
#include "ctl/render/words.h"

namespace supervisor {
namespace {

Color SystemColor(v1::SystemHealth health) {
  switch (health) {
    case v1::SYSTEM_HEALTH_HEALTHY:
      return Color::kGreen;
    case v1::SYSTEM_HEALTH_DEGRADED:
      return Color::kYellow;
    case v1::SYSTEM_HEALTH_CRITICAL:
      return Color::kRed;
    case v1::SYSTEM_HEALTH_UNSPECIFIED:
    case v1::SystemHealth_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::SystemHealth_INT_MAX_SENTINEL_DO_NOT_USE_:
      return Color::kDim;
  }
  return Color::kNone;
}

// "2 failed", coloured only when it is not 0.
std::string Count(uint32_t count, std::string_view word, Color alarm, bool color) {
  return Colored(fmt::format("{} {}", count, word), count == 0 ? Color::kNone : alarm, color);
}

}  // namespace

std::string SummaryText(const v1::SummaryResponse& response, bool color) {
  std::string out = fmt::format("System    {}\n",
                                Colored(SystemHealthWord(response.status()), SystemColor(response.status()), color));
  out += fmt::format("Services  {} in all: {}, {}, {}, {}\n", response.total(),
                     Count(response.running(), "running", Color::kGreen, color),
                     Count(response.stopped(), "stopped", Color::kNone, color),
                     Count(response.failed(), "failed", Color::kRed, color),
                     Count(response.unhealthy(), "unhealthy", Color::kRed, color));
  out += fmt::format("Restarts  {}\n", response.restarts());
  out += fmt::format("Alerts    {}\n", Count(response.alerts(), "open", Color::kRed, color));
  out +=
      fmt::format("Load      CPU {}, memory {}\n", CpuText(response.cpu_percent()), MemoryText(response.memory_mb()));
  out += fmt::format("Daemon    supervisord {}, up {}\n\n", EscapeForTerminal(response.version()),
                     UptimeText(response.uptime_seconds()));
  out += StatusText(response.services(), color);
  if (!response.remarks().empty()) {
    out += fmt::format("\n{}\n", Colored("Remarks", Color::kBold, color));
    for (const std::string& remark : response.remarks()) {
      out += fmt::format("  {}\n", Colored(EscapeForTerminal(remark), Color::kYellow, color));
    }
  }
  if (!response.recent_events().empty()) {
    out += fmt::format("\n{}\n", Colored("Recent events", Color::kBold, color));
    for (const v1::Event& event : response.recent_events()) {
      out += "  " + EventLine(event, color);
    }
  }
  return out;
}

}  // namespace supervisor
