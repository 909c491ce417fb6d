#include "daemon/logs/compressor.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <utility>

#include "daemon/logs/gzip_log.h"

namespace supervisor {
namespace {

// Last in line for processor and disk. That a kernel or a container refuses is no harm.
void LowerPriority() {
  constexpr int kLowest = 19;
  const auto self = static_cast<id_t>(syscall(SYS_gettid));
  setpriority(PRIO_PROCESS, self, kLowest);
  constexpr int kIoprioWhoProcess = 1;  // linux/ioprio.h, which glibc does not wrap
  constexpr int kIoprioIdle = 3 << 13;
  syscall(SYS_ioprio_set, kIoprioWhoProcess, 0, kIoprioIdle);
}

}  // namespace

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
  LowerPriority();
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
