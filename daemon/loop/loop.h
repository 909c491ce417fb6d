#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/time/time.h"
#include "common/clock.h"

namespace supervisor {

// An event loop on one thread (libuv inside): descriptors, timers, and work posted by other threads.
//
// Threads: Post may be called by any thread, all else by the thread that calls Run (or before Run). Callbacks run on
// the loop's thread, one at a time; they may create and destroy any watch or timer, their own included.
class Loop {
 public:
  using Callback = std::function<void()>;

  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs until Stop. Work posted before Run is done first.
  void Run();
  // Ends Run after the callback under way. What is still posted is not run.
  void Stop();

  // Any thread. In order per thread. Work posted after the loop has ended is dropped unrun when the loop goes.
  void Post(Callback work);

  // Called once a turn after all events of the turn were dispatched, before the loop sleeps: where the owner settles
  // what the events have brought.
  void SetTurnEnd(Callback callback);

  // Watches a borrowed descriptor, level-triggered, until the handle is destroyed (which must come before its close).
  // Null when the kernel refuses to watch it (a regular file, no memory).
  enum class Interest { kRead, kWrite, kReadWrite };
  struct Ready {
    bool readable = false;
    bool writable = false;
    bool failed = false;  // EPOLLERR or EPOLLHUP alone
  };
  class Watch {
   public:
    virtual ~Watch() = default;
    virtual void SetInterest(Interest interest) = 0;
  };
  std::unique_ptr<Watch> WatchFd(int fd, Interest interest, std::function<void(Ready)> callback);

  // A timer that can be armed again and again. Fires once an arming, never early. When the loop was held up beyond its
  // time, what descriptors and other threads have brought meanwhile goes before it.
  class Timer {
   public:
    virtual ~Timer() = default;
    // Replaces what was armed. A time in the past fires on the next turn; kNoDeadline disarms.
    virtual void ArmAt(MonoTime when) = 0;
    virtual void ArmAfter(absl::Duration delay) = 0;
    virtual void Disarm() = 0;
  };
  std::unique_ptr<Timer> NewTimer(Callback callback);

  // Destroys `garbage` on a later turn: for an object that must go from within its own callback.
  template <typename T>
  void DestroyLater(std::unique_ptr<T> garbage) {
    std::shared_ptr<T> held = std::move(garbage);
    Post([held]() mutable { held.reset(); });
  }

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace supervisor
