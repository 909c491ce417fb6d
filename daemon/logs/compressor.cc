#include "daemon/logs/compressor.h"

#include <pthread.h>

#include <csignal>
#include <utility>

#include "daemon/logs/gzip_log.h"
#include "daemon/loop/thread_priority.h"

namespace supervisor {
Compressor::~Compressor() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) {
    thread_.join();
  }
}

void Compressor::Add(Job job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  if (!thread_.joinable()) {
    thread_ = std::thread([this] { Run(); });
  }
  wake_.notify_one();
}

void Compressor::Run() {
  pthread_setname_np(pthread_self(), "log-compress");
  LowerThreadPriority();
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (stop_) {
        return;
      }
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    const absl::Status result = CompressLog(job.input.get(), job.output.get(), job.original, stop_);
    if (!stop_) {
      job.done(result);
    }
  }
}

}  // namespace supervisor
