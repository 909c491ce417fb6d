#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "daemon/notify/alert.h"

namespace supervisor {

// The times and sizes of a channel, apart from what a user configures. Tests make them short.
struct ChannelTuning {
  size_t most_waiting = 200;
  absl::Duration gather = absl::Milliseconds(50);  // what happens together is told together
  absl::Duration retry_first = absl::Seconds(1);
  absl::Duration retry_most = absl::Minutes(5);
  int dead_after = 3;                                // failures in a row
  absl::Duration attempt_limit = absl::Seconds(10);  // of one delivery, names and all
};

// When a channel speaks, and of what: the first alert at once, then at most one message every `min_interval` with all
// that has gathered; after a failure again with back-off, together with what has come since. Bounded: the oldest goes,
// and is counted. Pure: the time comes in.
//
//   Add -> Due -> Take -> Delivered | Failed -> ...
class ChannelQueue {
 public:
  ChannelQueue(const ChannelTuning& tuning, absl::Duration min_interval)
      : tuning_(tuning), min_interval_(min_interval) {}

  void SetInterval(absl::Duration min_interval) { min_interval_ = min_interval; }

  void Add(Alert alert, MonoTime now);
  // When Take is to be called; kNoDeadline: nothing waits, or an attempt is under way.
  MonoTime Due() const;
  // The channel is configured otherwise: what an attempt under way was to tell waits again, as if nothing had failed.
  void BeginAnew();
  // The end is near: what waits is due now, whatever it waits for.
  void Hurry() { first_waits_ = not_before_ = -absl::InfiniteDuration(); }
  // Begins an attempt with all that waits, oldest first. REQUIRES: something waits, and no attempt is under way.
  const std::vector<Alert>& Take();
  // Those that are being told.
  const std::vector<Alert>& taken() const { return taken_; }
  // Of those that are being told: how many older ones went since the last message that came through.
  uint64_t left_out() const { return left_out_; }

  // How the attempt ended, and what that makes of the channel.
  enum class Turn { kNone, kDied, kRecovered };
  Turn Delivered(MonoTime now);
  Turn Failed(MonoTime now);

  bool idle() const { return waiting_.empty() && taken_.empty(); }
  size_t size() const { return waiting_.size() + taken_.size(); }
  uint64_t dropped() const { return dropped_; }  // since the beginning

 private:
  void DropOverflow();
  void Recall();  // what is being told waits again

  ChannelTuning tuning_;
  absl::Duration min_interval_;
  std::deque<Alert> waiting_;
  std::vector<Alert> taken_;  // of the attempt under way
  MonoTime first_waits_;      // since when the first of waiting_ does
  MonoTime not_before_ = -absl::InfiniteDuration();
  absl::Duration backoff_;
  int failures_ = 0;  // in a row
  bool dead_ = false;
  uint64_t left_out_ = 0;
  uint64_t dropped_ = 0;
};

}  // namespace supervisor
