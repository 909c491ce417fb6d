#pragma once

#include <functional>
#include <mutex>

namespace supervisor {

// For a thread that may outlive who is called: calls out to the owner until the owner has gone. Any thread; Close waits
// for the call that is under way.
class CallGate {
 public:
  void Call(const std::function<void()>& call) {
    const std::lock_guard lock(mutex_);
    if (!closed_) {
      call();
    }
  }
  void Close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }

 private:
  std::mutex mutex_;
  bool closed_ = false;
};

}  // namespace supervisor
