#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

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

std::string SummaryText(const v1::SummaryResponse& response, bool color, size_t width) {
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
  out += StatusText(response.services(), color, "", width);
  if (!response.remarks().empty()) {
    out += fmt::format("\n{}\n", Colored("Remarks", Color::kBold, color));
    for (const std::string& remark : response.remarks()) {
      out += fmt::format("  {}\n", Colored(EscapeForTerminal(remark), Color::kYellow, color));
    }
  }
  if (!response.recent_events().empty()) {
    out += fmt::format("\n{}\n", Colored("Recent events", Color::kBold, color));
    for (const v1::Event& event : response.recent_events()) {
      std::string line = "  " + EventLine(event, color);
      line.pop_back();
      out += CutToWidth(line, width) + "\n";
    }
  }
  return out;
}

std::string TopText(const v1::SummaryResponse& response, TopOrder order, size_t lines, bool color, size_t width) {
  const std::string_view by = [order] {
    switch (order) {
      case TopOrder::kCpu:
        return "CPU";
      case TopOrder::kMemory:
        return "memory";
      case TopOrder::kRestarts:
        return "restarts";
      case TopOrder::kName:
        return "name";
    }
    return "";
  }();
  std::vector<std::string> out;
  out.push_back(fmt::format("{}: {}, {}, {}, {}; {}; CPU {}, memory {}; up {}",
                            Colored(SystemHealthWord(response.status()), SystemColor(response.status()), color),
                            Count(response.running(), "running", Color::kGreen, color),
                            Count(response.stopped(), "stopped", Color::kNone, color),
                            Count(response.failed(), "failed", Color::kRed, color),
                            Count(response.unhealthy(), "unhealthy", Color::kRed, color),
                            Count(response.alerts(), "alerts", Color::kRed, color), CpuText(response.cpu_percent()),
                            MemoryText(response.memory_mb()), UptimeText(response.uptime_seconds())));
  out.push_back(fmt::format("by {} (c CPU, m memory, r restarts, n name, q quit)", by));
  out.emplace_back();
  const auto add_lines = [&out](const std::string& text) {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      out.push_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
  };
  add_lines(StatusText(response.services(), color, "", width));
  // The events below, if at least three of them have room.
  constexpr size_t kFewest = 3;
  const auto events = static_cast<size_t>(response.recent_events_size());
  const size_t room = lines == 0 ? events : lines > out.size() + 2 ? lines - out.size() - 2 : 0;
  if (events > 0 && room >= std::min(events, kFewest)) {
    out.emplace_back();
    for (size_t i = events - std::min(events, room); i < events; ++i) {
      add_lines(EventLine(response.recent_events(static_cast<int>(i)), color));
    }
  }
  if (lines > 0 && out.size() >= lines) {
    out.resize(lines - 1);
  }
  std::string text;
  for (const std::string& line : out) {
    text += CutToWidth(line, width) + "\n";
  }
  return text;
}

}  // namespace supervisor
