#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "ctl/render/text.h"
#include "ctl/render/utf8.h"
#include "ctl/render/words.h"

namespace supervisor {
namespace {

// Fixed widths: a line of the live stream cannot know what comes after it.
constexpr size_t kTimeWidth = 23;
constexpr size_t kServiceWidth = 20;
constexpr size_t kTypeWidth = 18;

std::string Padded(const std::string& text, size_t width) {
  return text + std::string(width - std::min(width, DisplayWidth(text)), ' ');
}

}  // namespace

Color EventColor(std::string_view event_type) {
  if (event_type == "failed" || event_type == "unhealthy" || event_type == "oom_killed" ||
      event_type == "limit_exceeded" || event_type == "alert_raised") {
    return Color::kRed;
  }
  if (event_type == "restarting" || event_type == "exited") {
    return Color::kYellow;
  }
  if (event_type == "started" || event_type == "ready" || event_type == "healthy" || event_type == "alert_resolved") {
    return Color::kGreen;
  }
  return Color::kNone;
}

std::string EventsHeader(bool color) {
  const std::string header = fmt::format("{}  {}  {}  MESSAGE", Padded("TIME (UTC)", kTimeWidth),
                                         Padded("SERVICE", kServiceWidth), Padded("EVENT", kTypeWidth));
  return Colored(header, Color::kBold, color) + "\n";
}

std::string EventLine(const v1::Event& event, bool color) {
  const std::string type = EscapeForTerminal(event.event_type());
  const std::string padding(kTypeWidth - std::min(kTypeWidth, DisplayWidth(type)), ' ');
  const std::string actor = EscapeForTerminal(event.actor());
  return fmt::format("{}  {}  {}{}  {}{}\n", Padded(TimeText(event.timestamp_unix_ms()), kTimeWidth),
                     Padded(EscapeForTerminal(event.service_id()), kServiceWidth),
                     Colored(type, EventColor(event.event_type()), color), padding, EscapeForTerminal(event.message()),
                     actor.empty() ? "" : Colored(fmt::format(" [by {}]", actor), Color::kDim, color));
}

}  // namespace supervisor
