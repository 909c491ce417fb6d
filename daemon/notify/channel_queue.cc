#include "daemon/notify/channel_queue.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <utility>

namespace supervisor {

void ChannelQueue::Add(Alert alert, MonoTime now) {
  if (waiting_.empty()) {
    first_waits_ = now;
  }
  waiting_.push_back(std::move(alert));
  DropOverflow();
}

// What is being told is not dropped: it may be on its way through.
void ChannelQueue::DropOverflow() {
  while (size() > tuning_.most_waiting && !waiting_.empty()) {
    waiting_.pop_front();
    ++left_out_;
    ++dropped_;
  }
}

MonoTime ChannelQueue::Due() const {
  if (waiting_.empty() || !taken_.empty()) {
    return kNoDeadline;
  }
  return std::max(first_waits_ + tuning_.gather, not_before_);
}

const std::vector<Alert>& ChannelQueue::Take() {
  assert(taken_.empty());
  taken_.assign(std::make_move_iterator(waiting_.begin()), std::make_move_iterator(waiting_.end()));
  waiting_.clear();
  return taken_;
}

ChannelQueue::Turn ChannelQueue::Delivered(MonoTime now) {
  taken_.clear();
  left_out_ = 0;
  failures_ = 0;
  backoff_ = absl::ZeroDuration();
  not_before_ = now + min_interval_;
  return std::exchange(dead_, false) ? Turn::kRecovered : Turn::kNone;
}

// What waited for another try is due; an interval after a message that came through goes on.
void ChannelQueue::BeginAnew() {
  Recall();
  if (failures_ > 0) {
    not_before_ = -absl::InfiniteDuration();
  }
  failures_ = 0;
  backoff_ = absl::ZeroDuration();
  dead_ = false;
}

void ChannelQueue::Recall() {
  waiting_.insert(waiting_.begin(), std::make_move_iterator(taken_.begin()), std::make_move_iterator(taken_.end()));
  taken_.clear();
  DropOverflow();
}

ChannelQueue::Turn ChannelQueue::Failed(MonoTime now) {
  Recall();
  backoff_ = std::clamp(backoff_ * 2, tuning_.retry_first, tuning_.retry_most);
  not_before_ = now + backoff_;
  const bool dies = ++failures_ >= tuning_.dead_after;
  return dies && !std::exchange(dead_, true) ? Turn::kDied : Turn::kNone;
}

}  // namespace supervisor
