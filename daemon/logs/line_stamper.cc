#include "daemon/logs/line_stamper.h"

#include <algorithm>

namespace supervisor {

std::string_view LineStamper::Stamp(std::string_view waiting, std::string_view prefix, bool at_line_start,
                                    uint64_t room, bool force) {
  out_.clear();
  pieces_.clear();
  bool line_start = at_line_start;
  while (!waiting.empty()) {
    std::string_view before = line_start ? prefix : std::string_view();
    if (pieces_.empty() && !unfinished_prefix_.empty()) {
      before = unfinished_prefix_;
    }
    const size_t end = waiting.find('\n');
    const std::string_view line = waiting.substr(0, end == std::string_view::npos ? end : end + 1);
    const bool fits = out_.size() + before.size() + line.size() <= room;
    if (!fits && !(force && pieces_.empty())) {
      break;
    }
    out_ += before;
    out_ += line;
    pieces_.push_back({before.size(), line.size()});
    if (!fits) {
      break;
    }
    line_start = end != std::string_view::npos;
    waiting.remove_prefix(line.size());
  }
  return out_;
}

uint64_t LineStamper::Written(uint64_t written) {
  uint64_t raw = 0;
  uint64_t at = 0;  // in out_
  for (const Piece& piece : pieces_) {
    if (written < piece.prefix_bytes) {
      // A prefix of which nothing is written is made anew, with the time of then; one that was begun is finished.
      const bool begun = written > 0 || (at == 0 && !unfinished_prefix_.empty());
      unfinished_prefix_ = begun ? out_.substr(at + written, piece.prefix_bytes - written) : std::string();
      return raw;
    }
    written -= piece.prefix_bytes;
    at += piece.prefix_bytes + piece.raw_bytes;
    unfinished_prefix_.clear();
    const uint64_t taken = std::min(written, piece.raw_bytes);
    raw += taken;
    written -= taken;
    if (taken < piece.raw_bytes) {
      return raw;
    }
  }
  return raw;
}

}  // namespace supervisor
