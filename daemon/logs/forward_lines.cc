#include "daemon/logs/forward_lines.h"

#include <algorithm>

namespace supervisor {

size_t ForwardLines::Feed(std::string_view data, const std::function<bool(std::string_view line)>& give) {
  size_t done = 0;
  while (done < data.size()) {
    const std::string_view rest = data.substr(done);
    const size_t end = rest.find('\n');
    const size_t room = longest_ - std::min(longest_, partial_.size());
    const bool cut = std::min(end, rest.size()) > room;
    const size_t length = cut ? room : std::min(end, rest.size());
    if (end == std::string_view::npos && !cut) {
      partial_ += rest;
      return data.size();
    }
    if (partial_.empty()) {
      if (!give(rest.substr(0, length))) {
        return done;
      }
    } else {
      const size_t before = partial_.size();
      partial_ += rest.substr(0, length);
      if (!give(partial_)) {
        partial_.resize(before);
        return done;
      }
      partial_.clear();
    }
    done += length + (cut ? 0 : 1);
  }
  return done;
}

}  // namespace supervisor
