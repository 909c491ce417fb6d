#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "daemon/loop/loop.h"

namespace supervisor {

// Threads for calls that may block for as long as they like (getaddrinfo, exec on a dead network file system). They
// are made on demand, end after some idle seconds, and are never joined: one that hangs must not hold up the end.
// Hence a job refers to nothing that it does not own together with others (shared_ptr).
//
// Any thread.
class HelperPool {
 public:
  explicit HelperPool(size_t most_threads);
  ~HelperPool();  // drops what is queued and does not wait for what runs
  HelperPool(const HelperPool&) = delete;
  HelperPool& operator=(const HelperPool&) = delete;

  // Runs the job as soon as a thread is free, unless `wanted` has expired by then. False when no thread is there and
  // none can be made: the job will not run.
  bool Run(std::weak_ptr<const void> wanted, std::function<void()> job);

 private:
  struct Shared;
  static void* Work(void* argument);
  std::shared_ptr<Shared> shared_;
};

// A loop's address for threads that may outlive it.
class LoopMailbox {
 public:
  explicit LoopMailbox(Loop* loop);
  ~LoopMailbox();
  LoopMailbox(const LoopMailbox&) = delete;
  LoopMailbox& operator=(const LoopMailbox&) = delete;

  // Any thread. False, with the work dropped, after Close.
  bool Post(Loop::Callback work);
  // Before the loop goes.
  void Close();

 private:
  struct Guarded;
  std::unique_ptr<Guarded> guarded_;
};

}  // namespace supervisor
