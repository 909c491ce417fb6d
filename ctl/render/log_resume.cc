#include "ctl/render/log_resume.h"

#include <algorithm>
#include <utility>

namespace supervisor {

void LogResume::Reconnected() {
  for (auto& [key, log] : logs_) {
    log.catching_up = true;
    log.last_seen_end = 0;
  }
}

LogResume::Fresh LogResume::Accept(const v1::LogChunk& chunk) {
  Log& log = logs_[{chunk.id(), chunk.stream()}];
  const Fresh fresh = log.catching_up ? CatchUp(log, chunk) : Fresh{.data = chunk.data()};
  if (!fresh.data.empty()) {
    log.catching_up = false;
    Remember(log, chunk);
  }
  return fresh;
}

LogResume::Fresh LogResume::CatchUp(Log& log, const v1::LogChunk& chunk) {
  const std::string_view data = chunk.data();
  const uint64_t begin = chunk.offset();
  const uint64_t end = begin + data.size();
  const uint64_t known_from = log.end_offset - log.tail.size();
  if (begin < std::exchange(log.last_seen_end, end)) {
    return {.data = data};
  }
  if (begin >= log.end_offset) {
    return {.data = data, .missed_bytes = begin - log.end_offset};
  }
  if (end <= known_from) {
    return {};  // older than what is kept for comparison
  }
  const uint64_t shared_from = std::max(begin, known_from);
  const uint64_t shared_to = std::min(end, log.end_offset);
  const std::string_view shown = std::string_view(log.tail).substr(shared_from - known_from, shared_to - shared_from);
  if (data.substr(shared_from - begin, shared_to - shared_from) != shown) {
    return {.data = data};  // another file at the same place: the log was rotated
  }
  return {.data = data.substr(shared_to - begin)};
}

void LogResume::Remember(Log& log, const v1::LogChunk& chunk) {
  if (chunk.offset() != log.end_offset) {
    log.tail.clear();
  }
  log.end_offset = chunk.offset() + chunk.data().size();
  log.tail += chunk.data();
  if (log.tail.size() > 2 * kTailBytes) {
    log.tail.erase(0, log.tail.size() - kTailBytes);
  }
}

}  // namespace supervisor
