#include "common/time_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <ctime>

namespace supervisor {

std::string FormatTimestamp(absl::Time time) {
  const int64_t millis = absl::ToUnixMillis(time);
  const int64_t fraction = ((millis % 1000) + 1000) % 1000;
  const time_t seconds = static_cast<time_t>((millis - fraction) / 1000);
  tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03}", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                     utc.tm_hour, utc.tm_min, utc.tm_sec, fraction);
}

std::string FormatSpan(absl::Duration duration) {
  const double seconds = std::max(0.0, absl::ToDoubleSeconds(duration));
  if (seconds < 0.9995) {
    return fmt::format("{:.0f} ms", seconds * 1000);
  }
  if (seconds < 9.95) {
    return fmt::format("{:.1f} s", seconds);
  }
  const auto total = static_cast<int64_t>(std::llround(std::min(seconds, 9e15)));
  const int64_t minutes = total / 60;
  const int64_t hours = minutes / 60;
  if (total < 60) {
    return fmt::format("{} s", total);
  }
  if (minutes < 60) {
    return fmt::format("{}m {}s", minutes, total % 60);
  }
  if (hours < 24) {
    return fmt::format("{}h {}m", hours, minutes % 60);
  }
  return fmt::format("{}d {}h", hours / 24, hours % 24);
}

}  // namespace supervisor
