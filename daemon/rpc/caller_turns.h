#pragma once

#include <sys/types.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "daemon/loop/loop.h"

namespace supervisor {

// Shares the loop's time out among callers who may only look. Each turn of the loop runs one piece of their work, of
// the users in turn, so a user who asks a thousand things at once holds up neither supervision nor another user by more
// than one of them. Callers who may act do not use this class: their work goes to the loop at once.
//
// Any thread. Work that has not run when this is destroyed is dropped.
class CallerTurns {
 public:
  explicit CallerTurns(Loop& loop) : state_(std::make_shared<State>(loop)) {}
  ~CallerTurns();
  CallerTurns(const CallerTurns&) = delete;
  CallerTurns& operator=(const CallerTurns&) = delete;

  // So many calls of one user wait at most.
  static constexpr size_t kMostWaiting = 64;
  // Runs `work` on the loop when the user's turn comes. Returns false, and drops it, where kMostWaiting wait already.
  bool Post(uid_t user, std::function<void()> work);

 private:
  struct State {
    explicit State(Loop& of) : loop(of) {}
    Loop& loop;
    std::mutex mutex;
    std::map<uid_t, std::deque<std::function<void()>>> waiting;  // users without work are not in it
    uid_t last = 0;                                              // whose turn it was
    bool is_posted = false;                                      // a turn is on its way to the loop
    bool is_over = false;
  };
  static void TakeTurn(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
};

}  // namespace supervisor
