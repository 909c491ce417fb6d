#include "daemon/rpc/http2_frames.h"

#include <algorithm>

namespace supervisor {

void Http2Frames::Feed(std::string_view bytes, const std::function<void(const Frame&)>& on_frame) {
  while (!bytes.empty()) {
    const size_t skipped = std::min(to_skip_, bytes.size());
    to_skip_ -= skipped;
    bytes.remove_prefix(skipped);
    const size_t taken = std::min(kHeaderBytes - header_size_, bytes.size());
    std::copy_n(bytes.begin(), taken, header_.begin() + static_cast<std::ptrdiff_t>(header_size_));
    header_size_ += taken;
    bytes.remove_prefix(taken);
    if (header_size_ < kHeaderBytes) {
      continue;  // nothing is left
    }
    header_size_ = 0;
    const auto number = [this](size_t at, size_t size) {
      uint32_t value = 0;
      for (size_t i = at; i < at + size; ++i) {
        value = value << 8 | header_[i];
      }
      return value;
    };
    constexpr uint32_t kStreamBits = 0x7fffffff;
    const Frame frame{
        .type = header_[3], .flags = header_[4], .stream = number(5, 4) & kStreamBits, .length = number(0, 3)};
    to_skip_ = frame.length;
    on_frame(frame);
  }
}

}  // namespace supervisor
