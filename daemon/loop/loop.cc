#include "daemon/loop/loop.h"

#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <utility>
#include <vector>

#include "common/loop_thread.h"
#include "daemon/loop/loop_pulse.h"

namespace supervisor {
namespace {

// A timer that comes later than this was held up together with all else.
constexpr uint64_t kHeldUpMs = 50;

// libuv closes handles asynchronously, so each lives in a heap block of its own that outlasts our RAII object.
template <typename Handle>
struct Block {
  Handle handle{};
  std::function<void(Loop::Ready)> on_ready;
  std::function<void()> on_fire;
  uint64_t due = 0;  // of a timer, in milliseconds of libuv's clock
  bool alive = true;

  void Close() {
    alive = false;
    uv_close(reinterpret_cast<uv_handle_t*>(&handle),
             [](uv_handle_t* closed) { delete static_cast<Block*>(closed->data); });
  }
};

int EventsOf(Loop::Interest interest) {
  switch (interest) {
    case Loop::Interest::kRead:
      return UV_READABLE;
    case Loop::Interest::kWrite:
      return UV_WRITABLE;
    case Loop::Interest::kReadWrite:
      return UV_READABLE | UV_WRITABLE;
  }
  return 0;
}

class UvWatch final : public Loop::Watch {
 public:
  UvWatch(uv_loop_t* loop, int fd, Loop::Interest interest, std::function<void(Loop::Ready)> callback)
      : block_(new Block<uv_poll_t>) {
    block_->on_ready = std::move(callback);
    // uv_poll_init makes the descriptor non-blocking; what we watch is or does not care (pidfds).
    if (uv_poll_init(loop, &block_->handle, fd) != 0) {
      failed_ = true;
      delete block_;
      block_ = nullptr;
      return;
    }
    block_->handle.data = block_;
    SetInterest(interest);
  }
  UvWatch(const UvWatch&) = delete;
  UvWatch& operator=(const UvWatch&) = delete;
  ~UvWatch() override {
    if (block_ != nullptr) {
      uv_poll_stop(&block_->handle);
      block_->Close();
    }
  }

  bool failed() const { return failed_; }

  void SetInterest(Loop::Interest interest) override {
    if (block_ == nullptr) {
      return;
    }
    uv_poll_start(&block_->handle, EventsOf(interest), [](uv_poll_t* handle, int status, int events) {
      auto* block = static_cast<Block<uv_poll_t>*>(handle->data);
      if (!block->alive) {
        return;
      }
      const Loop::Ready ready{
          .readable = (events & UV_READABLE) != 0, .writable = (events & UV_WRITABLE) != 0, .failed = status < 0};
      const auto callback = block->on_ready;  // a copy: the callback may destroy the watch
      const CallbackRuns runs;
      callback(ready);
    });
  }

 private:
  Block<uv_poll_t>* block_;
  bool failed_ = false;
};

class UvTimer final : public Loop::Timer {
 public:
  UvTimer(uv_loop_t* loop, Loop::Callback callback) : loop_(loop), block_(new Block<uv_timer_t>) {
    block_->on_fire = std::move(callback);
    uv_timer_init(loop, &block_->handle);
    block_->handle.data = block_;
  }
  UvTimer(const UvTimer&) = delete;
  UvTimer& operator=(const UvTimer&) = delete;
  ~UvTimer() override {
    uv_timer_stop(&block_->handle);
    block_->Close();
  }

  void ArmAt(MonoTime when) override {
    if (when == kNoDeadline) {
      Disarm();
      return;
    }
    ArmAfter(when - MonotonicNow());
  }

  void ArmAfter(absl::Duration delay) override {
    // libuv counts whole milliseconds from a clock that it cuts to whole ones: round up twice, or it fires early.
    uv_update_time(loop_);
    const double millis = delay > absl::ZeroDuration() ? std::ceil(absl::ToDoubleMilliseconds(delay)) + 1 : 0;
    constexpr double kLongest = 1e15;
    const auto whole = static_cast<uint64_t>(std::min(millis, kLongest));
    block_->due = uv_now(loop_) + whole;
    uv_timer_start(&block_->handle, OnFire, whole, 0);
  }

  void Disarm() override { uv_timer_stop(&block_->handle); }

 private:
  // libuv runs what is due before it looks at descriptors. After the whole process was held up (stopped, swapped out,
  // its machine paused) everything is overdue, also where what was waited for has long come: so that is looked at
  // first.
  static void OnFire(uv_timer_t* handle) {
    auto* block = static_cast<Block<uv_timer_t>*>(handle->data);
    if (!block->alive) {
      return;
    }
    if (uv_now(handle->loop) > block->due + kHeldUpMs) {
      block->due = UINT64_MAX - kHeldUpMs;
      uv_timer_start(handle, OnFire, 1, 0);
      return;
    }
    const auto callback = block->on_fire;
    const CallbackRuns runs;
    callback();
  }

  uv_loop_t* loop_;
  Block<uv_timer_t>* block_;
};

}  // namespace

class Loop::Impl {
 public:
  Impl() {
    uv_loop_init(&loop_);
    uv_async_init(&loop_, &wake_, [](uv_async_t* handle) { static_cast<Impl*>(handle->data)->RunPosted(); });
    wake_.data = this;
    uv_prepare_init(&loop_, &turn_);
    turn_.data = this;
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    // Dropped work may own watches and timers: it goes while the loop still lives.
    std::vector<Callback> dropped = TakePosted();
    dropped.clear();
    uv_close(reinterpret_cast<uv_handle_t*>(&wake_), nullptr);
    uv_close(reinterpret_cast<uv_handle_t*>(&turn_), nullptr);
    // Whoever left a timer armed is not waited for.
    uv_walk(
        &loop_, [](uv_handle_t* handle, void*) { uv_unref(handle); }, nullptr);
    uv_run(&loop_, UV_RUN_DEFAULT);  // runs the close callbacks, which free the blocks
    uv_loop_close(&loop_);
  }

  void Run() {
    const OnLoopThread here;
    ThisThreadsPulse().thread = gettid();
    uv_run(&loop_, UV_RUN_DEFAULT);
  }

  void Stop() { uv_stop(&loop_); }

  void Post(Callback work) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_) {
        return;
      }
      posted_.push_back(std::move(work));
    }
    uv_async_send(&wake_);
  }

  void SetTurnEnd(Callback callback) {
    turn_end_ = std::move(callback);
    uv_prepare_start(&turn_, [](uv_prepare_t* handle) {
      const CallbackRuns runs;
      static_cast<Impl*>(handle->data)->turn_end_();
    });
  }

  uv_loop_t* loop() { return &loop_; }

 private:
  std::vector<Callback> TakePosted() {
    const std::lock_guard lock(mutex_);
    return std::exchange(posted_, {});
  }

  void RunPosted() {
    for (Callback& work : TakePosted()) {
      const CallbackRuns runs;
      work();
      work = nullptr;  // its captures go now, not after the whole batch
    }
  }

  uv_loop_t loop_{};
  uv_async_t wake_{};
  uv_prepare_t turn_{};
  Callback turn_end_;
  std::mutex mutex_;
  std::vector<Callback> posted_;
  bool closed_ = false;
};

Loop::Loop() : impl_(std::make_unique<Impl>()) {}
Loop::~Loop() = default;
void Loop::Run() { impl_->Run(); }
void Loop::Stop() { impl_->Stop(); }
void Loop::Post(Callback work) { impl_->Post(std::move(work)); }
void Loop::SetTurnEnd(Callback callback) { impl_->SetTurnEnd(std::move(callback)); }

std::unique_ptr<Loop::Watch> Loop::WatchFd(int fd, Interest interest, std::function<void(Ready)> callback) {
  auto watch = std::make_unique<UvWatch>(impl_->loop(), fd, interest, std::move(callback));
  if (watch->failed()) {
    return nullptr;
  }
  return watch;
}

std::unique_ptr<Loop::Timer> Loop::NewTimer(Callback callback) {
  return std::make_unique<UvTimer>(impl_->loop(), std::move(callback));
}

}  // namespace supervisor
