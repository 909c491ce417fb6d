#include "daemon/rpc/caller_turns.h"

#include <utility>

namespace supervisor {

CallerTurns::~CallerTurns() {
  const std::lock_guard lock(state_->mutex);
  state_->is_over = true;
  state_->waiting.clear();
}

bool CallerTurns::Post(uid_t user, std::function<void()> work) {
  const std::lock_guard lock(state_->mutex);
  std::deque<std::function<void()>>& queue = state_->waiting[user];
  if (queue.size() >= kMostWaiting) {
    return false;
  }
  queue.push_back(std::move(work));
  if (!std::exchange(state_->is_posted, true)) {
    state_->loop.Post([state = state_] { TakeTurn(state); });
  }
  return true;
}

void CallerTurns::TakeTurn(const std::shared_ptr<State>& state) {
  std::function<void()> work;
  {
    const std::lock_guard lock(state->mutex);
    state->is_posted = false;
    if (state->is_over || state->waiting.empty()) {
      return;
    }
    auto next = state->waiting.upper_bound(state->last);
    if (next == state->waiting.end()) {
      next = state->waiting.begin();
    }
    state->last = next->first;
    work = std::move(next->second.front());
    next->second.pop_front();
    if (next->second.empty()) {
      state->waiting.erase(next);
    }
    if (!state->waiting.empty()) {
      state->is_posted = true;
      state->loop.Post([state] { TakeTurn(state); });  // behind all that has come by now
    }
  }
  work();
}

}  // namespace supervisor
