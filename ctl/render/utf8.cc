#include "ctl/render/utf8.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <utility>

namespace supervisor {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

struct Decoded {
  uint32_t code_point = 0;
  size_t length = 1;  // bytes taken; of a malformed sequence, its longest well-begun part (Unicode 15, 3.9, table 3-8)
  bool valid = false;
  bool cut = false;  // not valid because the text ends: more bytes could make it so
};

// The second byte's range depends on the first (Unicode 15, table 3-7): it is what excludes overlong forms,
// surrogates and what lies beyond U+10FFFF.
Decoded Decode(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) {
    return {.code_point = first, .length = 1, .valid = true};
  }
  size_t length = 0;
  uint32_t code_point = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
    code_point = first & 0x1FU;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    code_point = first & 0x0FU;
    low = first == 0xE0 ? 0xA0 : 0x80;
    high = first == 0xED ? 0x9F : 0xBF;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    code_point = first & 0x07U;
    low = first == 0xF0 ? 0x90 : 0x80;
    high = first == 0xF4 ? 0x8F : 0xBF;
  } else {
    return {};
  }
  for (size_t i = 1; i < length; ++i) {
    if (i >= text.size()) {
      return {.code_point = 0, .length = i, .valid = false, .cut = true};
    }
    if (byte(i) < low || byte(i) > high) {
      return {.code_point = 0, .length = i, .valid = false};
    }
    code_point = (code_point << 6U) | (byte(i) & 0x3FU);
    low = 0x80;
    high = 0xBF;
  }
  return {.code_point = code_point, .length = length, .valid = true};
}

struct Range {
  uint32_t first;
  uint32_t last;
};

template <size_t N>
bool InRanges(uint32_t code_point, const std::array<Range, N>& ranges) {
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), code_point,
                                      [](uint32_t value, const Range& range) { return value < range.first; });
  return after != ranges.begin() && code_point <= std::prev(after)->last;
}

// The blocks that occur in practice; glibc's wcwidth(3) knows them all, but only after a locale was loaded.
constexpr std::array<Range, 13> kZeroWidth = {{{0x0300, 0x036F},
                                               {0x0483, 0x0489},
                                               {0x0591, 0x05BD},
                                               {0x0610, 0x061A},
                                               {0x064B, 0x065F},
                                               {0x0E34, 0x0E3A},
                                               {0x1AB0, 0x1AFF},
                                               {0x1DC0, 0x1DFF},
                                               {0x200B, 0x200D},
                                               {0x20D0, 0x20F0},
                                               {0xFE00, 0xFE0F},
                                               {0xFE20, 0xFE2F},
                                               {0xE0100, 0xE01EF}}};
constexpr std::array<Range, 16> kWide = {{{0x1100, 0x115F},
                                          {0x231A, 0x231B},
                                          {0x23E9, 0x23EC},
                                          {0x2E80, 0x303E},
                                          {0x3041, 0x33FF},
                                          {0x3400, 0x4DBF},
                                          {0x4E00, 0x9FFF},
                                          {0xA000, 0xA4CF},
                                          {0xAC00, 0xD7A3},
                                          {0xF900, 0xFAFF},
                                          {0xFE30, 0xFE6F},
                                          {0xFF00, 0xFF60},
                                          {0xFFE0, 0xFFE6},
                                          {0x1F300, 0x1F64F},
                                          {0x1F680, 0x1FAFF},
                                          {0x20000, 0x3FFFD}}};

bool TurnsDirection(uint32_t code_point) {
  return code_point == 0x061C || code_point == 0x200E || code_point == 0x200F ||
         (code_point >= 0x202A && code_point <= 0x202E) || (code_point >= 0x2066 && code_point <= 0x2069);
}

void AppendControl(std::string& out, uint32_t code_point) {
  switch (code_point) {
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      out += code_point <= 0xFF ? fmt::format("\\x{:02x}", code_point) : fmt::format("\\u{:04x}", code_point);
  }
}

// What a terminal would obey, or show as another text than it is.
bool IsControl(uint32_t code_point) {
  return code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0) || code_point == 0x2028 ||
         code_point == 0x2029 || TurnsDirection(code_point);
}

void AppendEscaped(std::string& out, std::string_view text, const Decoded& decoded) {
  if (!decoded.valid) {
    for (const char c : text.substr(0, decoded.length)) {
      AppendControl(out, static_cast<unsigned char>(c));
    }
  } else if (IsControl(decoded.code_point)) {
    AppendControl(out, decoded.code_point);
  } else {
    out += text.substr(0, decoded.length);
  }
}

bool IsPlainAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7F; });
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  while (!text.empty()) {
    const Decoded decoded = Decode(text);
    if (!decoded.valid) {
      return false;
    }
    text.remove_prefix(decoded.length);
  }
  return true;
}

std::string ToValidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Decoded decoded = Decode(text);
    out += decoded.valid ? text.substr(0, decoded.length) : std::string_view(kReplacement);
    text.remove_prefix(decoded.length);
  }
  return out;
}

std::string EscapeForTerminal(std::string_view text) {
  if (IsPlainAscii(text)) {
    return std::string(text);
  }
  std::string out;
  out.reserve(text.size() + 16);
  while (!text.empty()) {
    const Decoded decoded = Decode(text);
    AppendEscaped(out, text, decoded);
    text.remove_prefix(decoded.length);
  }
  return out;
}

std::string TerminalText::Feed(std::string_view bytes) {
  held_ += bytes;
  std::string_view text = held_;
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Decoded decoded = Decode(text);
    if (decoded.cut) {
      break;
    }
    if (text.front() == '\n' || text.front() == '\t') {
      out += text.front();
    } else {
      AppendEscaped(out, text, decoded);
    }
    text.remove_prefix(decoded.length);
  }
  held_ = std::string(text);
  return out;
}

std::string TerminalText::End() { return EscapeForTerminal(std::exchange(held_, "")); }

size_t DisplayWidth(std::string_view text) {
  if (IsPlainAscii(text)) {
    return text.size();
  }
  size_t width = 0;
  while (!text.empty()) {
    const Decoded decoded = Decode(text);
    if (InRanges(decoded.code_point, kWide)) {
      width += 2;
    } else if (!InRanges(decoded.code_point, kZeroWidth)) {
      width += 1;
    }
    text.remove_prefix(decoded.length);
  }
  return width;
}

std::string CutToWidth(std::string_view text, size_t width) {
  constexpr std::string_view kEllipsis = "…";
  std::string out;
  size_t used = 0;
  size_t keep = 0;  // of `out`, when the ellipsis has to follow
  bool is_colored = false;
  while (!text.empty()) {
    size_t length = text.starts_with("\x1b[") ? text.find('m') : std::string_view::npos;
    size_t columns = 0;
    if (length != std::string_view::npos) {
      ++length;
      is_colored = text.substr(0, length) != "\x1b[0m";
    } else {
      length = Decode(text).length;
      columns = DisplayWidth(text.substr(0, length));
    }
    if (width != 0 && used + columns > width) {
      out.resize(keep);
      out += kEllipsis;
      return is_colored ? out + "\x1b[0m" : out;
    }
    out += text.substr(0, length);
    used += columns;
    keep = used < width ? out.size() : keep;
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace supervisor
