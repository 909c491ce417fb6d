#include "daemon/logs/rotation_rule.h"

#include <algorithm>

namespace supervisor {

AppendStep PlanAppend(uint64_t size, uint64_t waiting, uint64_t budget, uint64_t max_size) {
  using Kind = AppendStep::Kind;
  const uint64_t take = std::min(waiting, budget);
  if (max_size == 0) {
    return {Kind::kAppend, take};
  }
  if (size < max_size) {
    const uint64_t room = max_size - size;
    if (waiting <= room || budget < room) {
      return {Kind::kAppend, take};
    }
    return {Kind::kPeek, room};
  }
  if (size - max_size >= kLineSlackBytes) {
    return {Kind::kRotate, 0};
  }
  return {Kind::kPeek, std::min(take, max_size + kLineSlackBytes - size)};
}

AppendStep PlanPeeked(uint64_t size, std::string_view waiting, uint64_t max_size, bool file_at_line_start) {
  using Kind = AppendStep::Kind;
  if (size < max_size) {
    if (waiting.size() < max_size - size) {
      return {Kind::kAppend, waiting.size()};
    }
    const size_t last = waiting.rfind('\n');
    if (last != std::string_view::npos) {
      return {Kind::kAppend, last + 1};
    }
    if (file_at_line_start && size > 0) {
      return {Kind::kRotate, 0};
    }
    return {Kind::kAppend, waiting.size()};
  }
  if (file_at_line_start) {
    return {Kind::kRotate, 0};
  }
  const size_t first = waiting.find('\n');
  return {Kind::kAppend, first == std::string_view::npos ? waiting.size() : first + 1};
}

std::optional<size_t> BytesToSkip(std::string_view waiting, bool file_at_line_start, bool stream_at_line_start) {
  if (file_at_line_start && stream_at_line_start) {
    return 0;
  }
  const size_t first = waiting.find('\n');
  if (first == std::string_view::npos) {
    return std::nullopt;
  }
  return file_at_line_start ? first + 1 : first;
}

}  // namespace supervisor
