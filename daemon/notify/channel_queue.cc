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
  waiting_.push_back({.alert = std::move(alert)});
  if (faulted_) {
    first_waits_ = now;
    not_before_ = now;  // what was refused may be refused for itself: this one gets its try
  }
  DropOverflow();
}

// What is being told is not dropped: it may be on its way through.
void ChannelQueue::DropOverflow() {
  while (size() > tuning_.most_waiting && !waiting_.empty()) {
    const auto failed = std::ranges::find_if(waiting_, [](const Entry& entry) { return entry.failed_at.has_value(); });
    waiting_.erase(failed != waiting_.end() ? failed : waiting_.begin());
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

std::vector<Alert> ChannelQueue::Take() {
  assert(taken_.empty());
  std::deque<Entry> rest;
  for (Entry& entry : waiting_) {
    const bool fits = taken_.size() < limit_ && (limit_ == kNoLimit || IsWorthATry(entry));
    if (fits) {
      taken_.push_back(std::move(entry));
    } else {
      rest.push_back(std::move(entry));
    }
  }
  waiting_ = std::move(rest);
  if (taken_.empty()) {  // each has failed alone: the oldest of them again
    taken_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  return taken();
}

std::vector<Alert> ChannelQueue::taken() const {
  std::vector<Alert> alerts;
  alerts.reserve(taken_.size());
  for (const Entry& entry : taken_) {
    alerts.push_back(entry.alert);
  }
  return alerts;
}

ChannelQueue::Turn ChannelQueue::Delivered(MonoTime now) {
  taken_.clear();
  ++deliveries_;
  left_out_ = 0;
  failures_ = 0;
  backoff_ = absl::ZeroDuration();
  faulted_ = false;
  probed_ = false;
  if (waiting_.empty()) {
    limit_ = kNoLimit;
  }
  if (limit_ == kNoLimit) {
    not_before_ = now + min_interval_;
  } else {
    limit_ *= 2;
    not_before_ = now;  // the rest of one message that had to be divided
  }
  return std::exchange(dead_, false) ? Turn::kRecovered : Turn::kNone;
}

// What waited for another try is due; an interval after a message that came through goes on.
void ChannelQueue::BeginAnew() {
  Recall();
  if (failures_ > 0 || faulted_ || limit_ != kNoLimit) {
    not_before_ = -absl::InfiniteDuration();
  }
  for (Entry& entry : waiting_) {
    entry.failed_at.reset();
    entry.strikes = 0;
  }
  limit_ = kNoLimit;
  faulted_ = false;
  probed_ = false;
  failures_ = 0;
  backoff_ = absl::ZeroDuration();
  dead_ = false;
}

void ChannelQueue::Recall() {
  waiting_.insert(waiting_.begin(), std::make_move_iterator(taken_.begin()), std::make_move_iterator(taken_.end()));
  taken_.clear();
  DropOverflow();
}

ChannelQueue::Outcome ChannelQueue::EndFailed(const Failed& failed, MonoTime now) {
  faulted_ = false;
  const size_t count = taken_.size();
  if (count == 1 && failed.failure != DeliveryFailure::kUnreachable) {
    return EndAlone(failed, now);
  }
  Recall();
  switch (failed.failure) {
    case DeliveryFailure::kUnreachable:
      break;
    case DeliveryFailure::kServerError:
      if (failures_ + 1 >= tuning_.dead_after) {
        limit_ = 1;
      }
      break;
    case DeliveryFailure::kFault:
      limit_ = 1;
      not_before_ = now;
      return {};
    case DeliveryFailure::kRefused:
      limit_ = count / 2;
      not_before_ = now;
      return {};
  }
  return {.turn = BackOff(failed.retry_after, now)};
}

ChannelQueue::Outcome ChannelQueue::EndAlone(const Failed& failed, MonoTime now) {
  Entry entry = std::move(taken_.front());
  taken_.clear();
  limit_ = std::min(limit_, size_t{1});
  const bool others_got_through = entry.failed_at && *entry.failed_at < deliveries_;
  entry.strikes += others_got_through ? 1 : 0;
  const bool is_server_error = failed.failure == DeliveryFailure::kServerError;
  const int most_strikes = is_server_error ? tuning_.server_errors : 1;
  Outcome outcome;
  if (failed.failure == DeliveryFailure::kRefused || entry.strikes >= most_strikes) {
    outcome.dropped.push_back(std::move(entry.alert));
    not_before_ = now;
    outcome.turn = others_got_through ? Turn::kNone : CountFailure();
    if (waiting_.empty()) {
      limit_ = kNoLimit;
    }
    return outcome;
  }
  entry.failed_at = deliveries_;
  waiting_.push_back(std::move(entry));
  DropOverflow();
  if (failed.failure == DeliveryFailure::kFault && !probed_ && HasUntried()) {
    probed_ = true;  // one more, to tell a refused notification from a refused channel
    not_before_ = now;
    return outcome;
  }
  probed_ = false;
  faulted_ = failed.failure == DeliveryFailure::kFault || waiting_.back().strikes > 0;
  outcome.turn = BackOff(failed.retry_after, now);
  return outcome;
}

bool ChannelQueue::HasUntried() const {
  return std::ranges::any_of(waiting_, [](const Entry& entry) { return !entry.failed_at.has_value(); });
}

ChannelQueue::Turn ChannelQueue::BackOff(const std::optional<absl::Duration>& retry_after, MonoTime now) {
  backoff_ = std::clamp(backoff_ * 2, tuning_.retry_first, tuning_.retry_most);
  not_before_ = now + std::min(std::max(backoff_, retry_after.value_or(backoff_)), tuning_.retry_most);
  return CountFailure();
}

ChannelQueue::Turn ChannelQueue::CountFailure() {
  const bool dies = ++failures_ >= tuning_.dead_after;
  return dies && !std::exchange(dead_, true) ? Turn::kDied : Turn::kNone;
}

}  // namespace supervisor
