#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "daemon/loop/worker.h"

namespace supervisor {

// Streams read files and wait for slow readers on a few threads of their own. A stream keeps to one of them, so its
// parts never run at the same time.
class StreamWorkers {
 public:
  StreamWorkers() = default;
  ~StreamWorkers() {
    for (const std::shared_ptr<Worker>& worker : workers_) {
      worker->Close();
    }
  }
  StreamWorkers(const StreamWorkers&) = delete;
  StreamWorkers& operator=(const StreamWorkers&) = delete;

  // Shared with streams that have ended and still wait for somebody's answer; closed with this.
  std::shared_ptr<Worker> Next() { return workers_[next_++ % workers_.size()]; }

 private:
  std::array<std::shared_ptr<Worker>, 2> workers_{std::make_shared<Worker>(), std::make_shared<Worker>()};
  std::atomic<size_t> next_{0};
};

// The streams that are open, so that they can be ended when the daemon ends. Thread-safe.
class StreamRegistry {
 public:
  // `end` may be called from any thread until Remove has returned. False where everything is ending already.
  bool Add(const void* stream, std::function<void()> end) {
    const std::lock_guard lock(mutex_);
    if (ending_) {
      return false;
    }
    ends_.emplace(stream, std::move(end));
    return true;
  }
  void Remove(const void* stream) {
    const std::lock_guard lock(mutex_);
    ends_.erase(stream);
  }
  void EndAll() {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    for (const auto& [stream, end] : ends_) {
      end();
    }
  }

 private:
  std::mutex mutex_;
  std::map<const void*, std::function<void()>> ends_;
  bool ending_ = false;
};

}  // namespace supervisor
