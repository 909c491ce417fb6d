#include "daemon/health/text.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

namespace supervisor {
namespace {

// The length of the well-formed UTF-8 sequence that `text` begins with (Unicode's table 3-7); 0 when it is none.
size_t SequenceLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const auto in = [&](size_t i, unsigned low, unsigned high) {
    return i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  const uint8_t lead = byte(0);
  if (lead < 0x80) {
    return 1;
  }
  if (lead >= 0xC2 && lead <= 0xDF) {
    return in(1, 0x80, 0xBF) ? 2 : 0;
  }
  if (lead >= 0xE0 && lead <= 0xEF) {
    const unsigned low = lead == 0xE0 ? 0xA0 : 0x80;
    const unsigned high = lead == 0xED ? 0x9F : 0xBF;
    return in(1, low, high) && in(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const unsigned low = lead == 0xF0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xF4 ? 0x8F : 0xBF;
    return in(1, low, high) && in(2, 0x80, 0xBF) && in(3, 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

bool IsSpaceOrControl(uint8_t byte) { return byte <= 0x20 || byte == 0x7F; }

std::string OneLine(std::string_view raw) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  std::string line;
  line.reserve(raw.size());
  bool gap = false;
  while (!raw.empty()) {
    const size_t length = SequenceLength(raw);
    // The C1 controls (U+0080 to U+009F) steer terminals as the C0 ones do.
    const bool c1 = length == 2 && static_cast<uint8_t>(raw[0]) == 0xC2 && static_cast<uint8_t>(raw[1]) < 0xA0;
    if (c1 || (length == 1 && IsSpaceOrControl(static_cast<uint8_t>(raw[0])))) {
      gap = true;
    } else {
      if (gap && !line.empty()) {
        line.push_back(' ');
      }
      gap = false;
      line.append(length == 0 ? kReplacement : raw.substr(0, length));
    }
    raw.remove_prefix(length == 0 ? 1 : length);
  }
  return line;
}

bool IsContinuation(char c) { return (static_cast<uint8_t>(c) & 0xC0) == 0x80; }

}  // namespace

std::string OneLineTail(std::string_view raw, size_t most_bytes) {
  if (raw.size() > most_bytes) {
    raw.remove_prefix(raw.size() - most_bytes);
  }
  std::string line = OneLine(raw);
  if (line.size() > most_bytes) {  // replacement characters take more room than what they replace
    size_t cut = line.size() - most_bytes;
    while (cut < line.size() && IsContinuation(line[cut])) {
      ++cut;
    }
    line.erase(0, cut);
  }
  return line;
}

std::string QuotedExcerpt(std::string_view raw) {
  constexpr size_t kMost = 60;
  std::string line = OneLine(raw.substr(0, 4 * kMost));
  const bool cut = line.size() > kMost || raw.size() > 4 * kMost;
  if (line.size() > kMost) {
    size_t end = kMost;
    while (end > 0 && IsContinuation(line[end])) {
      --end;
    }
    line.resize(end);
  }
  return fmt::format("\"{}{}\"", line, cut ? "..." : "");
}

std::string DurationText(absl::Duration duration) {
  if (duration < absl::Seconds(1)) {
    return fmt::format("{:.0f} ms", absl::ToDoubleMilliseconds(duration));
  }
  return fmt::format("{:.1f} s", absl::ToDoubleSeconds(duration));
}

std::string ErrnoPhrase(int error) {
  const char* description = strerrordesc_np(error);
  if (description == nullptr) {
    return fmt::format("error {}", error);
  }
  std::string phrase = description;
  const bool acronym = phrase.size() > 1 && phrase[1] >= 'A' && phrase[1] <= 'Z';
  if (!acronym && phrase[0] >= 'A' && phrase[0] <= 'Z') {
    phrase[0] = static_cast<char>(phrase[0] - 'A' + 'a');
  }
  return phrase;
}

bool IsOwnShortage(int error) {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS || error == EAGAIN;
}

}  // namespace supervisor
