#include "daemon/loop/helper_pool.h"

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

#include "common/signals_blocked.h"

namespace supervisor {
namespace {

constexpr std::chrono::seconds kIdle(5);
constexpr size_t kStackBytes = 512 << 10;  // name service modules are not modest
constexpr size_t kPruneAt = 256;           // jobs queued behind hung ones, most of them no longer wanted

}  // namespace

struct HelperPool::Shared {
  struct Job {
    std::weak_ptr<const void> wanted;
    std::function<void()> run;
  };

  explicit Shared(size_t most) : most_threads(most) {}

  const size_t most_threads;
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<Job> jobs;
  size_t threads = 0;
  size_t idle = 0;
  bool closed = false;
};

HelperPool::HelperPool(size_t most_threads) : shared_(std::make_shared<Shared>(most_threads)) {}

HelperPool::~HelperPool() {
  std::deque<Shared::Job> dropped;  // destroyed after the lock: captures may be anything
  const std::lock_guard lock(shared_->mutex);
  shared_->closed = true;
  dropped.swap(shared_->jobs);
  shared_->wake.notify_all();
}

bool HelperPool::Run(std::weak_ptr<const void> wanted, std::function<void()> job) {
  const std::lock_guard lock(shared_->mutex);
  if (shared_->jobs.size() >= kPruneAt) {
    std::erase_if(shared_->jobs, [](const Shared::Job& queued) { return queued.wanted.expired(); });
  }
  shared_->jobs.push_back({std::move(wanted), std::move(job)});
  if (shared_->idle >= shared_->jobs.size() || shared_->threads >= shared_->most_threads) {
    shared_->wake.notify_one();
    return true;
  }
  // Signals belong to the daemon's own thread: the new one inherits a full mask.
  const SignalsBlocked blocked;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread{};
  auto argument = std::make_unique<std::shared_ptr<Shared>>(shared_);
  const bool created = pthread_create(&thread, &attributes, &HelperPool::Work, argument.get()) == 0;
  pthread_attr_destroy(&attributes);
  if (created) {
    static_cast<void>(argument.release());  // the thread's now
    ++shared_->threads;
    return true;
  }
  if (shared_->threads > 0) {
    return true;
  }
  shared_->jobs.pop_back();
  return false;
}

void* HelperPool::Work(void* argument) {
  const std::unique_ptr<std::shared_ptr<Shared>> owned(static_cast<std::shared_ptr<Shared>*>(argument));
  Shared& shared = **owned;
  std::unique_lock lock(shared.mutex);
  while (!shared.closed) {
    if (shared.jobs.empty()) {
      ++shared.idle;
      const bool woken = shared.wake.wait_for(lock, kIdle, [&shared] { return shared.closed || !shared.jobs.empty(); });
      --shared.idle;
      if (!woken) {
        break;
      }
      continue;
    }
    Shared::Job job = std::move(shared.jobs.front());
    shared.jobs.pop_front();
    lock.unlock();
    if (!job.wanted.expired()) {
      job.run();
    }
    job = {};
    lock.lock();
  }
  --shared.threads;
  lock.unlock();
  return nullptr;
}

struct LoopMailbox::Guarded {
  std::mutex mutex;
  Loop* loop;
};

LoopMailbox::LoopMailbox(Loop* loop) : guarded_(new Guarded{.mutex = {}, .loop = loop}) {}
LoopMailbox::~LoopMailbox() = default;

bool LoopMailbox::Post(Loop::Callback work) {
  const std::lock_guard lock(guarded_->mutex);
  if (guarded_->loop == nullptr) {
    return false;
  }
  guarded_->loop->Post(std::move(work));
  return true;
}

void LoopMailbox::Close() {
  const std::lock_guard lock(guarded_->mutex);
  guarded_->loop = nullptr;
}

}  // namespace supervisor
