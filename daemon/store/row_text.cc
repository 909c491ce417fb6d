#include "daemon/store/row_text.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <optional>

#include "common/time_format.h"

namespace supervisor {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

uint8_t ByteAt(std::string_view text, size_t at) { return at < text.size() ? static_cast<uint8_t>(text[at]) : 0; }

// The length of the character at `at`, 0 where there is none (RFC 3629, table 3-7 of the Unicode standard).
size_t CharacterLength(std::string_view text, size_t at) {
  const uint8_t first = ByteAt(text, at);
  if (first < 0x80) {
    return first == 0 ? 0 : 1;
  }
  const auto continues = [&](size_t offset, uint8_t low = 0x80, uint8_t high = 0xBF) {
    const uint8_t byte = ByteAt(text, at + offset);
    return byte >= low && byte <= high;
  };
  if (first >= 0xC2 && first <= 0xDF) {
    return continues(1) ? 2 : 0;
  }
  if (first >= 0xE0 && first <= 0xEF) {
    const uint8_t low = first == 0xE0 ? 0xA0 : 0x80;   // no overlong forms
    const uint8_t high = first == 0xED ? 0x9F : 0xBF;  // no surrogates
    return continues(1, low, high) && continues(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const uint8_t low = first == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = first == 0xF4 ? 0x8F : 0xBF;  // nothing above U+10FFFF
    return continues(1, low, high) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

// -1 where they are no digits. A span of metrics is a hundred thousand timestamps: no branch a digit. REQUIRES: so many
// characters are there.
template <size_t kCount>
int Digits(std::string_view text, size_t at) {
  unsigned value = 0;
  unsigned worst = 0;
  for (size_t i = 0; i < kCount; ++i) {
    const unsigned digit = static_cast<unsigned char>(text[at + i]) - unsigned{'0'};  // wraps around below it
    worst = std::max(worst, digit);
    value = value * 10 + digit;
  }
  return worst <= 9 ? static_cast<int>(value) : -1;
}

constexpr size_t kSecondsLength = 19;

// "YYYY-MM-DD?HH:MM:SS", 19 characters.
std::optional<absl::Time> ParseDateTime(std::string_view text) {
  if (text.size() < kSecondsLength || text[4] != '-' || text[7] != '-' || text[13] != ':' || text[16] != ':' ||
      (text[10] != ' ' && text[10] != 'T')) {
    return std::nullopt;
  }
  const int year = Digits<4>(text, 0);
  const int month = Digits<2>(text, 5);
  const int day = Digits<2>(text, 8);
  const int hour = Digits<2>(text, 11);
  const int minute = Digits<2>(text, 14);
  const int second = Digits<2>(text, 17);
  if (std::min({year, month, day, hour, minute, second}) < 0) {
    return std::nullopt;
  }
  if (month < 1 || month > 12) {
    return absl::FromCivil(absl::CivilSecond(year, month, day, hour, minute, second), absl::UTCTimeZone());
  }
  // As that does, in a fraction of the time.
  const std::chrono::sys_days month_began =
      std::chrono::year(year) / std::chrono::month(static_cast<unsigned>(month)) / 1;
  const int64_t days = month_began.time_since_epoch().count() + day - 1;
  return absl::FromUnixSeconds(((days * 24 + hour) * 60 + minute) * 60 + second);
}

// Of ".123": the milliseconds, rounded.
int64_t MillisOf(std::string_view fraction) {
  if (fraction.size() == 4) {
    if (const int millis = Digits<3>(fraction, 1); millis >= 0) {
      return millis;
    }
  }
  double value = 0;
  std::from_chars(fraction.data(), fraction.data() + fraction.size(), value);
  return std::lround(value * 1000);
}

// The years that fit the format.
absl::Time ClampToFormat(absl::Time time) {
  const absl::Time first = absl::FromUnixSeconds(-62167219200);   // 0000-01-01
  const absl::Time last = absl::FromUnixMillis(253402300799999);  // 9999-12-31 23:59:59.999
  return std::min(std::max(time, first), last);
}

}  // namespace

std::string WithValidUtf8(std::string text) {
  size_t at = 0;
  while (at < text.size()) {
    const size_t length = CharacterLength(text, at);
    if (length == 0) {
      break;
    }
    at += length;
  }
  if (at == text.size()) {
    return text;
  }
  std::string valid = text.substr(0, at);
  while (at < text.size()) {
    const size_t length = CharacterLength(text, at);
    if (length == 0) {
      valid += kReplacement;
      ++at;
    } else {
      valid.append(text, at, length);
      at += length;
    }
  }
  return valid;
}

std::string JoinList(const std::vector<std::string>& ids) {
  std::string text = "[";
  for (const std::string& id : ids) {
    if (id.find_first_of("\"\\") == std::string::npos) {
      text += text.size() > 1 ? ",\"" : "\"";
      text += id + '"';
    }
  }
  return text + "]";
}

std::vector<std::string> SplitList(std::string_view text) {
  std::vector<std::string> ids;
  for (size_t at = text.find('"'); at != std::string_view::npos;) {
    const size_t end = text.find('"', at + 1);
    if (end == std::string_view::npos) {
      break;
    }
    ids.emplace_back(text.substr(at + 1, end - at - 1));
    at = text.find('"', end + 1);
  }
  return ids;
}

absl::Time ParseTimestamp(std::string_view text) {
  if (const auto whole = ParseDateTime(text); whole.has_value()) {
    return text.size() > 20 && text[19] == '.' ? *whole + absl::Milliseconds(MillisOf(text.substr(19))) : *whole;
  }
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error == std::errc() && end == text.data() + text.size() && std::isfinite(seconds)) {
    return absl::UnixEpoch() + absl::Seconds(seconds);
  }
  return absl::UnixEpoch();
}

std::string TimestampLowerBound(absl::Time since) {
  std::string bound = FormatTimestamp(ClampToFormat(since));
  // "07:28:15" sorts before "07:28:15.000" and is the same time.
  constexpr std::string_view kNoFraction = ".000";
  if (bound.ends_with(kNoFraction)) {
    bound.resize(bound.size() - kNoFraction.size());
  }
  return bound;
}

std::string TimestampUpperBound(absl::Time until) { return FormatTimestamp(ClampToFormat(until)); }

}  // namespace supervisor
