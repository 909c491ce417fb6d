#include "ctl/render/time_spec.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <utility>

#include "absl/time/civil_time.h"

namespace supervisor {
namespace {

constexpr double kDayMillis = 86400e3;
constexpr double kWeekMillis = 7 * kDayMillis;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Takes exactly `digits` digits off the front.
std::optional<int> TakeNumber(std::string_view& text, size_t digits) {
  if (text.size() < digits) {
    return std::nullopt;
  }
  int value = 0;
  for (size_t i = 0; i < digits; ++i) {
    if (!IsDigit(text[i])) {
      return std::nullopt;
    }
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(digits);
  return value;
}

bool TakeChar(std::string_view& text, char wanted) {
  if (!text.starts_with(wanted)) {
    return false;
  }
  text.remove_prefix(1);
  return true;
}

// ".5", ".042": milliseconds; what is finer is cut off.
std::optional<int> TakeFraction(std::string_view& text) {
  if (!TakeChar(text, '.')) {
    return 0;
  }
  int millis = 0;
  int scale = 100;
  size_t digits = 0;
  while (!text.empty() && IsDigit(text.front())) {
    millis += (text.front() - '0') * scale;
    scale /= 10;
    ++digits;
    text.remove_prefix(1);
  }
  return digits == 0 ? std::nullopt : std::optional<int>(millis);
}

// "", "Z", "+02:00", "+0200": seconds east of UTC; takes the rest of the text.
std::optional<int> ParseZone(std::string_view text) {
  if (text.empty() || text == "Z" || text == "z" || text == " UTC") {
    return 0;
  }
  const int sign = text.front() == '+' ? 1 : text.front() == '-' ? -1 : 0;
  if (sign == 0) {
    return std::nullopt;
  }
  text.remove_prefix(1);
  const std::optional<int> hours = TakeNumber(text, 2);
  TakeChar(text, ':');
  const std::optional<int> minutes = TakeNumber(text, 2);
  if (!hours || !minutes || !text.empty() || *hours > 23 || *minutes > 59) {
    return std::nullopt;
  }
  return sign * (*hours * 3600 + *minutes * 60);
}

struct TimeOfDay {
  int hour = 0;
  int minute = 0;
  int second = 0;
  int millis = 0;
};

std::optional<TimeOfDay> TakeTimeOfDay(std::string_view& text) {
  const std::optional<int> hour = TakeNumber(text, 2);
  if (!hour || !TakeChar(text, ':')) {
    return std::nullopt;
  }
  const std::optional<int> minute = TakeNumber(text, 2);
  if (!minute || *hour > 23 || *minute > 59) {
    return std::nullopt;
  }
  TimeOfDay time{.hour = *hour, .minute = *minute};
  if (TakeChar(text, ':')) {
    const std::optional<int> second = TakeNumber(text, 2);
    const std::optional<int> millis = second ? TakeFraction(text) : std::nullopt;
    if (!millis || *second > 60) {
      return std::nullopt;
    }
    time.second = *second;
    time.millis = *millis;
  }
  return time;
}

// "07:28:15.5+02:00" on that day.
std::optional<int64_t> ParseTimeOn(absl::CivilDay day, std::string_view text) {
  const std::optional<TimeOfDay> time = TakeTimeOfDay(text);
  const std::optional<int> east = time ? ParseZone(text) : std::nullopt;
  if (!east) {
    return std::nullopt;
  }
  const absl::CivilSecond civil(day.year(), day.month(), day.day(), time->hour, time->minute, time->second);
  return absl::ToUnixMillis(absl::FromCivil(civil, absl::UTCTimeZone())) + time->millis - int64_t{*east} * 1000;
}

int64_t MidnightOf(absl::CivilDay day) { return absl::ToUnixMillis(absl::FromCivil(day, absl::UTCTimeZone())); }

std::optional<int64_t> ParseCivil(std::string_view text) {
  const std::optional<int> year = TakeNumber(text, 4);
  if (!year || !TakeChar(text, '-')) {
    return std::nullopt;
  }
  const std::optional<int> month = TakeNumber(text, 2);
  if (!month || !TakeChar(text, '-')) {
    return std::nullopt;
  }
  const std::optional<int> day = TakeNumber(text, 2);
  if (!day) {
    return std::nullopt;
  }
  const absl::CivilDay civil_day(*year, *month, *day);
  if (civil_day.month() != *month || civil_day.day() != *day) {
    return std::nullopt;  // the 30th of February
  }
  if (text.empty()) {
    return MidnightOf(civil_day);
  }
  if (!TakeChar(text, ' ') && !TakeChar(text, 'T') && !TakeChar(text, 't')) {
    return std::nullopt;
  }
  return ParseTimeOn(civil_day, text);
}

std::optional<double> TakeDecimal(std::string_view& text) {
  double value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(value) || value < 0) {
    return std::nullopt;
  }
  text.remove_prefix(static_cast<size_t>(rest - text.data()));
  return value;
}

// The units of systemd.time(7), and how people write them.
std::optional<double> TakeUnitMillis(std::string_view& text) {
  constexpr std::array<std::pair<std::string_view, double>, 24> kUnits = {
      {{"ms", 1},           {"msec", 1},           {"s", 1e3},
       {"sec", 1e3},        {"secs", 1e3},         {"second", 1e3},
       {"seconds", 1e3},    {"m", 60e3},           {"min", 60e3},
       {"mins", 60e3},      {"minute", 60e3},      {"minutes", 60e3},
       {"h", 3600e3},       {"hr", 3600e3},        {"hrs", 3600e3},
       {"hour", 3600e3},    {"hours", 3600e3},     {"d", kDayMillis},
       {"day", kDayMillis}, {"days", kDayMillis},  {"w", kWeekMillis},
       {"wk", kWeekMillis}, {"week", kWeekMillis}, {"weeks", kWeekMillis}}};
  const size_t length = std::min(text.find_first_not_of("abcdefghijklmnopqrstuvwxyz"), text.size());
  const auto* const found = std::ranges::find(kUnits, text.substr(0, length), &decltype(kUnits)::value_type::first);
  if (found == kUnits.end()) {
    return std::nullopt;
  }
  text.remove_prefix(length);
  return found->second;
}

void SkipBlanks(std::string_view& text) { text.remove_prefix(std::min(text.find_first_not_of(' '), text.size())); }

// "90s", "-90s" and "90s ago" are the same time: each names how long ago it was.
std::optional<double> ParseSpanMillis(std::string_view text) {
  constexpr std::string_view kAgo = "ago";
  const bool is_negative = TakeChar(text, '-');
  if (!is_negative && text.ends_with(kAgo)) {
    text.remove_suffix(kAgo.size());
    text = text.substr(0, text.find_last_not_of(' ') + 1);
  }
  if (text.empty()) {
    return std::nullopt;
  }
  double total = 0;
  while (!text.empty()) {
    const std::optional<double> value = TakeDecimal(text);
    SkipBlanks(text);
    const std::optional<double> unit = value ? TakeUnitMillis(text) : std::nullopt;
    if (!unit) {
      return std::nullopt;
    }
    total += *value * *unit;
    SkipBlanks(text);
  }
  return total;
}

// "14:00", "today", "yesterday 14:00": of a day named by its distance from today, in UTC.
std::optional<int64_t> ParseNamedDay(std::string_view text, absl::Time now) {
  constexpr std::array<std::pair<std::string_view, int>, 3> kDays = {
      {{"today", 0}, {"yesterday", -1}, {"tomorrow", 1}}};
  absl::CivilDay day = absl::ToCivilDay(now, absl::UTCTimeZone());
  for (const auto& [name, distance] : kDays) {
    if (text.starts_with(name)) {
      text.remove_prefix(name.size());
      day += distance;
      if (text.empty()) {
        return MidnightOf(day);
      }
      return TakeChar(text, ' ') ? ParseTimeOn(day, text) : std::nullopt;
    }
  }
  return ParseTimeOn(day, text);
}

std::optional<int64_t> ParseUnixSeconds(std::string_view text) {
  const std::optional<double> seconds = TakeDecimal(text);
  constexpr double kLatest = 253402300800;  // the year 10000
  return seconds && text.empty() && *seconds < kLatest ? std::optional<int64_t>(std::llround(*seconds * 1000))
                                                       : std::nullopt;
}

std::optional<int64_t> ParseUnixMillis(std::string_view text, absl::Time now) {
  const int64_t now_ms = absl::ToUnixMillis(now);
  if (text == "now") {
    return now_ms;
  }
  if (text.starts_with('@')) {
    return ParseUnixSeconds(text.substr(1));
  }
  if (const std::optional<int64_t> civil = ParseCivil(text)) {
    return civil;
  }
  if (const std::optional<int64_t> named = ParseNamedDay(text, now)) {
    return named;
  }
  const std::optional<double> span = ParseSpanMillis(text);
  if (!span) {
    return std::nullopt;
  }
  return *span >= static_cast<double>(now_ms) ? 0 : now_ms - static_cast<int64_t>(*span);
}

}  // namespace

std::optional<int64_t> ParseTimeSpec(std::string_view text, absl::Time now) {
  const std::optional<int64_t> unix_ms = ParseUnixMillis(text, now);
  // On the wire 0 is "no bound", and nothing is older than the epoch.
  return unix_ms ? std::optional(std::max<int64_t>(*unix_ms, 1)) : std::nullopt;
}

}  // namespace supervisor
