#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <memory>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/unique_fd.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// Ends TCP connections in order: tells the other end that nothing more comes, reads and drops what it still sends, and
// closes when it has ended too. A close(2) with bytes unread, or before bytes that are on their way, resets the
// connection instead (RFC 1122, section 4.2.2.13); servers that speak first log that as an error with each check.
//
// Bounded: a connection is kept for kLongest and kMostBytes at most; of more than kMostConnections the oldest is
// closed. Owned by the checker's engine; loop thread.
class OrderlyClose {
 public:
  static constexpr absl::Duration kLongest = absl::Seconds(5);
  static constexpr size_t kMostBytes = 256 << 10;
  static constexpr size_t kMostConnections = 256;

  explicit OrderlyClose(Loop& loop);
  ~OrderlyClose() = default;
  OrderlyClose(const OrderlyClose&) = delete;
  OrderlyClose& operator=(const OrderlyClose&) = delete;

  // A socket that is not connected is just closed.
  void End(UniqueFd fd);

  bool idle() const { return ending_.empty(); }
  // Calls `done` once, from within the turn in which the last connection is closed. REQUIRES: not idle.
  void WhenIdle(std::function<void()> done) { when_idle_ = std::move(done); }

 private:
  struct Ending {
    UniqueFd fd;
    MonoTime closes_at;
    size_t bytes = 0;
    std::unique_ptr<Loop::Watch> watch;  // after fd, so destroyed before it
  };
  static bool HasEnded(Ending& ending);
  void Remove(std::list<Ending>::iterator ending);
  void CloseOldest();

  Loop& loop_;
  std::list<Ending> ending_;            // the oldest first
  std::unique_ptr<Loop::Timer> timer_;  // of the oldest
  std::function<void()> when_idle_;
};

}  // namespace supervisor
