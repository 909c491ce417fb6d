#include "daemon/config/read_status_ranges.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "daemon/config/message_text.h"
#include "daemon/config/status_range.h"

namespace supervisor {
namespace {

constexpr std::string_view kExpected = "a whole number from 100 to 599, or a range such as \"2xx\"";

std::optional<StatusRange> ReadOne(ObjectReader& reader, std::string_view key, size_t index, const JsonValue& value) {
  if (value.kind == JsonKind::kString) {
    const std::optional<std::string> text = reader.ElementText(key, index, kExpected);
    if (!text) {
      return std::nullopt;  // it has been reported
    }
    if (const std::optional<StatusRange> range = ParseStatusRange(*text)) {
      return range;
    }
  } else if (value.kind == JsonKind::kNumber && std::trunc(value.number) == value.number &&
             value.number >= kLeastStatus && value.number <= kMostStatus) {
    const int status = static_cast<int>(value.number);
    return StatusRange{status, status};
  }
  reader.ReportElement(key, index, fmt::format("{} (expected {})", DescribeValue(value, true), kExpected));
  return std::nullopt;
}

}  // namespace

void ReadStatusRanges(ObjectReader& reader, std::string_view key, std::vector<StatusRange>* out) {
  const JsonMember* member = reader.Take(key);
  if (member == nullptr) {
    return;
  }
  const JsonValue& list = member->value;
  if (list.kind != JsonKind::kArray) {
    reader.Report(key, fmt::format("{} (expected a list, such as [200] or [\"2xx\", 401])", DescribeValue(list, true)));
    return;
  }
  if (list.children.empty()) {
    reader.Report(key, "is empty, so no answer could be right (expected at least one status, such as [200])");
  }
  std::vector<StatusRange> ranges;
  for (size_t i = 0; i < list.children.size(); ++i) {
    const std::optional<StatusRange> range = ReadOne(reader, key, i, list.children[i].value);
    if (range && std::ranges::find(ranges, *range) != ranges.end()) {
      reader.ReportElement(key, i, fmt::format("{} is listed twice", StatusRangesText({*range})));
    } else if (range) {
      ranges.push_back(*range);
    }
  }
  *out = std::move(ranges);
}

}  // namespace supervisor
