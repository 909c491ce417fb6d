#include "daemon/config/status_range.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace supervisor {
namespace {

constexpr int kClass = 100;

std::optional<int> StatusOf(std::string_view text) {
  int status = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, status);
  const bool is_one = error == std::errc() && rest == end && status >= kLeastStatus && status <= kMostStatus;
  return is_one ? std::optional<int>(status) : std::nullopt;
}

bool IsClass(std::string_view text) {
  const auto is_x = [](char c) { return c == 'x' || c == 'X'; };
  return text.size() == 3 && text[0] >= '1' && text[0] <= '5' && is_x(text[1]) && is_x(text[2]);
}

std::string RangeText(const StatusRange& range) {
  if (range.first == range.last) {
    return fmt::format("{}", range.first);
  }
  const bool is_class = range.first % kClass == 0 && range.last == range.first + kClass - 1;
  return is_class ? fmt::format("{}xx", range.first / kClass) : fmt::format("{}-{}", range.first, range.last);
}

}  // namespace

std::optional<StatusRange> ParseStatusRange(std::string_view text) {
  if (IsClass(text)) {
    const int first = (text[0] - '0') * kClass;
    return StatusRange{first, first + kClass - 1};
  }
  const size_t dash = text.find('-');
  if (dash == std::string_view::npos) {
    return std::nullopt;
  }
  const std::optional<int> first = StatusOf(text.substr(0, dash));
  const std::optional<int> last = StatusOf(text.substr(dash + 1));
  return first && last && *first <= *last ? std::optional(StatusRange{*first, *last}) : std::nullopt;
}

bool IsWithin(const std::vector<StatusRange>& ranges, int status) {
  return std::ranges::any_of(
      ranges, [status](const StatusRange& range) { return range.first <= status && status <= range.last; });
}

std::string StatusRangesText(const std::vector<StatusRange>& ranges) {
  std::string text;
  for (const StatusRange& range : ranges) {
    text += (text.empty() ? "" : ", ") + RangeText(range);
  }
  return text;
}

}  // namespace supervisor
