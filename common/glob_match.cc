#include "common/glob_match.h"

#include <cstddef>

namespace supervisor {
namespace {

// What one element of a pattern (not a star) says of a character.
struct Element {
  bool matches = false;
  size_t length = 1;  // of the element, in the pattern
};

// `at` is behind the "[". Nothing matches, and the length is 0, where no "]" closes it: then "[" is an ordinary
// character.
Element MatchSet(std::string_view pattern, size_t at, unsigned char c) {
  const bool is_negated = at < pattern.size() && (pattern[at] == '!' || pattern[at] == '^');
  size_t i = at + (is_negated ? 1 : 0);
  const size_t first = i;
  bool found = false;
  for (; i < pattern.size() && (pattern[i] != ']' || i == first); ++i) {
    if (pattern[i] == '\\' && i + 1 < pattern.size()) {
      ++i;
    }
    const auto low = static_cast<unsigned char>(pattern[i]);
    auto high = low;
    if (i + 2 < pattern.size() && pattern[i + 1] == '-' && pattern[i + 2] != ']') {
      i += 2;
      if (pattern[i] == '\\' && i + 1 < pattern.size()) {
        ++i;
      }
      high = static_cast<unsigned char>(pattern[i]);
    }
    found = found || (low <= c && c <= high);
  }
  if (i >= pattern.size()) {
    return {.matches = false, .length = 0};
  }
  return {.matches = found != is_negated, .length = i + 1 - at};
}

Element MatchElement(std::string_view pattern, size_t at, char c) {
  switch (pattern[at]) {
    case '?':
      return {.matches = true};
    case '[':
      if (const Element set = MatchSet(pattern, at + 1, static_cast<unsigned char>(c)); set.length > 0) {
        return {.matches = set.matches, .length = set.length + 1};
      }
      return {.matches = c == '['};
    case '\\':
      if (at + 1 < pattern.size()) {
        return {.matches = pattern[at + 1] == c, .length = 2};
      }
      return {.matches = false};
    default:
      return {.matches = pattern[at] == c};
  }
}

}  // namespace

bool GlobMatches(std::string_view pattern, std::string_view text) {
  size_t p = 0;
  size_t t = 0;
  // Behind the last star, and what it has taken so far: another try of an earlier star can bring nothing new.
  size_t star = std::string_view::npos;
  size_t taken = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = ++p;
      taken = t;
      continue;
    }
    if (p < pattern.size()) {
      if (const Element element = MatchElement(pattern, p, text[t]); element.matches) {
        p += element.length;
        ++t;
        continue;
      }
    }
    if (star == std::string_view::npos) {
      return false;
    }
    p = star;
    t = ++taken;
  }
  while (p < pattern.size() && pattern[p] == '*') {
    ++p;
  }
  return p == pattern.size();
}

bool IsGlob(std::string_view text) { return text.find_first_of("*?[") != std::string_view::npos; }

}  // namespace supervisor
