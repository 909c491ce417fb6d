#include "daemon/loop/worker.h"

#include <system_error>
#include <utility>

namespace supervisor {

Worker::~Worker() { Finish(); }

void Worker::Finish() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) {
    thread_.join();
  }
  // What was posted while there was no thread to be had; others may post all the while.
  std::deque<std::function<void()>> left;
  {
    const std::lock_guard lock(mutex_);
    left.swap(queue_);
  }
  for (const std::function<void()>& work : left) {
    work();
  }
}

void Worker::Close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  Finish();
}

void Worker::Post(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) {
      return;
    }
    queue_.push_back(std::move(work));
    if (!thread_.joinable() && !stopping_) {
      try {
        thread_ = std::thread([this] { Run(); });
      } catch (const std::system_error&) {
        return;  // no thread to be had now: the next post tries again, and Finish does what is left
      }
    }
    // Under the lock: when the work is done and the worker goes, we have let go of it.
    if (waking_ == Waking::kAtOnce) {
      wake_.notify_one();
    } else {
      posted_.store(true, std::memory_order_relaxed);
    }
  }
}

void Worker::Wake() {
  if (posted_.exchange(false, std::memory_order_relaxed)) {
    wake_.notify_one();
  }
}

void Worker::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) {
      return;
    }
    std::deque<std::function<void()>> batch;
    batch.swap(queue_);
    lock.unlock();
    for (std::function<void()>& work : batch) {
      std::exchange(work, nullptr)();
    }
    lock.lock();
  }
}

}  // namespace supervisor
