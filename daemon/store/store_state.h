#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/call_gate.h"
#include "common/clock.h"
#include "daemon/store/queries.h"
#include "daemon/store/space.h"
#include "daemon/store/store_queue.h"

namespace supervisor {

// The store's times and sizes, apart from what a user configures. Tests make them short.
struct StoreTuning {
  size_t batch_rows = 1000;
  size_t max_queued_bytes = 32 << 20;
  // A first event or state is written at once, those of a burst together, so many milliseconds apart.
  absl::Duration burst_interval = absl::Milliseconds(5);
  absl::Duration metrics_delay = absl::Milliseconds(20);  // samples of one round arrive one after another
  // How long a lock is waited for, before that counts as trouble and after.
  absl::Duration lock_patience = absl::Seconds(1);
  absl::Duration lock_patience_in_trouble = absl::Seconds(1);
  absl::Duration retry_first = absl::Milliseconds(100);
  absl::Duration retry_most = absl::Seconds(2);
  absl::Duration set_aside_interval = absl::Minutes(1);  // a disk that spoils every file shall not fill with them
  absl::Duration retention_first = absl::Minutes(1);
  absl::Duration retention_interval = absl::Hours(1);
  absl::Duration retention_pause = absl::Milliseconds(10);  // between two steps: others want the lock too
  absl::Duration retention_held_back = absl::Seconds(2);    // until a reader is asked again whether it has ended
  int64_t retention_step = 500;
  SpaceLimits space;
  absl::Duration query_patience = absl::Seconds(2);  // for rows queued before it
  // Nobody waits that long for an answer: such a query would only hold up the next.
  absl::Duration query_too_late = absl::Seconds(10);
  absl::Duration flush_time = absl::Seconds(2);
};

// What a waiting query does on the reader thread: reads, and gives back the call that delivers the answer, which is
// made when the connection is free again.
struct QueryAnswer {
  absl::Status status;
  std::function<void()> deliver;
};
using QueryWork = std::function<QueryAnswer(absl::StatusOr<RowReader*>)>;

struct WaitingQuery {
  uint64_t after_sequence = 0;
  MonoTime asked;
  QueryWork work;
};

struct WaitingForWrite {
  uint64_t after_sequence = 0;
  std::function<void()> done;
};

// What callers, writer and reader share. Outlives the Store when a thread hangs in the disk and has to be left behind.
struct StoreState {
  StoreState(std::string path_in, const StoreTuning& tuning_in, size_t max_rows)
      : path(std::move(path_in)), tuning(tuning_in), queue(max_rows, tuning_in.max_queued_bytes) {}

  const std::string path;
  const StoreTuning tuning;

  std::mutex mutex;
  std::condition_variable writer_wake;
  std::condition_variable reader_wake;
  std::condition_variable thread_ended;

  // Set once, under the mutex, after stop_deadline; atomic because SQLite's callbacks look at it while they hold none.
  std::atomic<bool> stopping = false;
  MonoTime stop_deadline = kNoDeadline;

  // All below: under the mutex.
  StoreQueue queue;
  uint64_t in_flight_sequence = StoreQueue::kNothingWaits;  // of the oldest row that the writer holds
  MonoTime write_at = kNoDeadline;                          // when the rows in the queue are due
  MonoTime last_write = -absl::InfiniteDuration();
  std::deque<WaitingQuery> queries;
  std::deque<WaitingForWrite> waiting_for_write;  // in the order of their sequences
  std::string trouble;                            // in words, "" is none
  bool opened = false;                            // the database has been open once
  bool stuck = false;                             // nothing can be written at present
  bool malformed = false;                         // the reader came upon it
  absl::Duration metrics_retention;
  absl::Duration events_retention;
  bool retention_changed = false;
  bool clean_up_now = false;
  int threads = 0;

  bool StopTimeIsUp() const { return stopping.load(std::memory_order_acquire) && MonotonicNow() >= stop_deadline; }

  uint64_t OldestUnwritten() const { return std::min(in_flight_sequence, queue.OldestSequence()); }

  // All rows up to this one are on disk, or there is no use in waiting for that.
  bool IsSettled(uint64_t sequence) const { return stuck || OldestUnwritten() > sequence; }
};

// Waits on `wake` until `when` at the latest.
inline void WaitForWake(std::condition_variable& wake, std::unique_lock<std::mutex>& lock, MonoTime when) {
  if (when == kNoDeadline) {
    wake.wait(lock);
  } else {
    wake.wait_for(lock, absl::ToChronoNanoseconds(when - MonotonicNow()));
  }
}

// Between two tries to get a lock. SQLite queues nobody: against a program that commits in a loop only many tries find
// the moment between two commits. After a while it is rather one long transaction.
inline absl::Duration LockPause(int tries) { return tries < 2000 ? absl::Microseconds(500) : absl::Milliseconds(2); }

}  // namespace supervisor
