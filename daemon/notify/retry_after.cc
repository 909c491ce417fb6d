#include "daemon/notify/retry_after.h"

#include <algorithm>
#include <charconv>
#include <string>

namespace supervisor {
namespace {

// The three forms of RFC 9110, section 5.6.7.
std::optional<absl::Time> ParseHttpDate(const std::string& text) {
  for (const char* format : {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"}) {
    absl::Time time;
    std::string error;
    if (absl::ParseTime(format, text, absl::UTCTimeZone(), &time, &error)) {
      return time;
    }
  }
  return std::nullopt;
}

std::string Trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  return first == std::string_view::npos ? ""
                                         : std::string(text.substr(first, text.find_last_not_of(" \t") + 1 - first));
}

}  // namespace

std::optional<absl::Duration> ParseRetryAfter(std::string_view retry_after, std::string_view date, absl::Time now) {
  const std::string text = Trimmed(retry_after);
  if (!text.empty() && text.find_first_not_of("0123456789") == std::string::npos) {
    int64_t seconds = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    return error == std::errc() ? absl::Seconds(seconds) : absl::InfiniteDuration();  // too many digits
  }
  const std::optional<absl::Time> when = ParseHttpDate(text);
  if (!when) {
    return std::nullopt;
  }
  return std::max(*when - ParseHttpDate(Trimmed(date)).value_or(now), absl::ZeroDuration());
}

}  // namespace supervisor
