#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
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
  absl::Duration retry_most = absl::Minutes(5);      // also where the receiver asks for more
  int dead_after = 3;                                // failures in a row
  int server_errors = 3;                             // of one notification, while others get through
  absl::Duration attempt_limit = absl::Seconds(10);  // of one delivery, names and all
};

// Why an attempt failed, as far as it matters for what is tried next.
enum class DeliveryFailure {
  kUnreachable,  // nobody answers, or the answer is "later" (HTTP 429, 503): the notification has nothing to do with it
  kServerError,  // something fails over there, perhaps for this notification alone (HTTP 500, a command's exit code)
  kFault,        // refused: the channel's configuration, or this notification alone (HTTP 401, 403, 404, SMTP 5xx)
  kRefused,      // this notification is refused for good (HTTP 400, 413, 422)
};

// When a channel speaks, and of what: the first alert at once, then at most one message every `min_interval` with all
// that has gathered; after a failure again with back-off, together with what has come since. Bounded: the oldest goes,
// and is counted. Pure: the time comes in.
//
// One notification that the receiver never takes must not hold up the others. So when it refuses a message of several,
// they are sent in smaller messages, down to single ones. What is refused for good then is dropped. What may be the
// channel's own fault (kFault, kServerError) lets the others go first; it is dropped only if it fails again after
// another one got through, which shows that the channel works. A channel that refuses everything keeps everything.
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
  // Begins an attempt and returns what it tells, oldest first. REQUIRES: something waits, and no attempt is under way.
  std::vector<Alert> Take();
  // Those that are being told.
  std::vector<Alert> taken() const;
  // Of those that are being told: how many older ones went since the last message that came through.
  uint64_t left_out() const { return left_out_; }

  // How the attempt ended, and what that makes of the channel.
  enum class Turn { kNone, kDied, kRecovered };
  Turn Delivered(MonoTime now);
  struct Failed {
    DeliveryFailure failure = DeliveryFailure::kUnreachable;
    std::optional<absl::Duration> retry_after = std::nullopt;  // as the receiver asks for
  };
  struct Outcome {
    Turn turn = Turn::kNone;
    std::vector<Alert> dropped = {};  // those that the receiver does not take, and that are not tried again
  };
  Outcome EndFailed(const Failed& failed, MonoTime now);

  bool idle() const { return waiting_.empty() && taken_.empty(); }
  size_t size() const { return waiting_.size() + taken_.size(); }
  uint64_t dropped() const { return dropped_; }  // for want of room, since the beginning

 private:
  static constexpr size_t kNoLimit = std::numeric_limits<size_t>::max();

  struct Entry {
    Alert alert;
    std::optional<uint64_t> failed_at = std::nullopt;  // alone: how many messages had got through then
    int strikes = 0;                                   // how often it failed alone after another had got through
  };

  void DropOverflow();
  void Recall();  // what is being told waits again
  // Of a message with one notification.
  Outcome EndAlone(const Failed& failed, MonoTime now);
  Turn BackOff(const std::optional<absl::Duration>& retry_after, MonoTime now);
  Turn CountFailure();
  bool IsWorthATry(const Entry& entry) const { return !entry.failed_at || *entry.failed_at < deliveries_; }
  bool HasUntried() const;

  ChannelTuning tuning_;
  absl::Duration min_interval_;
  std::deque<Entry> waiting_;
  std::vector<Entry> taken_;  // of the attempt under way
  MonoTime first_waits_;      // since when the first of waiting_ does
  MonoTime not_before_ = -absl::InfiniteDuration();
  absl::Duration backoff_;
  size_t limit_ = kNoLimit;  // of notifications in one message
  bool faulted_ = false;     // the last attempt was refused, and back-off is on
  bool probed_ = false;      // another one was tried at once after a refusal
  uint64_t deliveries_ = 0;
  int failures_ = 0;  // in a row
  bool dead_ = false;
  uint64_t left_out_ = 0;
  uint64_t dropped_ = 0;
};

}  // namespace supervisor
