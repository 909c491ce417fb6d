#include "ctl/render/log_lines.h"

namespace supervisor {

LogLines::LogLines(Sink sink) : sink_(std::move(sink)) {}

void LogLines::Feed(const v1::LogChunk& chunk) {
  Pending& pending = pending_[{chunk.id(), chunk.stream()}];
  std::string_view data = chunk.data();
  for (size_t end = data.find('\n'); end != std::string_view::npos; end = data.find('\n')) {
    if (pending.text.empty()) {
      sink_(chunk, data.substr(0, end));
    } else {
      pending.text += data.substr(0, end);
      sink_(pending.origin, pending.text);
      pending.text.clear();
    }
    data.remove_prefix(end + 1);
  }
  if (data.empty()) {
    return;
  }
  if (pending.text.empty()) {
    pending.origin = chunk;
    pending.origin.clear_data();
  }
  pending.text += data;
  if (pending.text.size() >= kLongestLine) {
    sink_(pending.origin, pending.text);
    pending.text.clear();
  }
}

void LogLines::Flush() {
  for (auto& [key, pending] : pending_) {
    if (!pending.text.empty()) {
      sink_(pending.origin, pending.text);
      pending.text.clear();
    }
  }
}

}  // namespace supervisor
