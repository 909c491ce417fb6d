#include "daemon/logs/log_pump.h"

#include <fmt/format.h>
#include <pthread.h>

#include <atomic>
#include <future>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "common/diag_log.h"
#include "common/signals_blocked.h"
#include "daemon/logs/log_move.h"
#include "daemon/logs/stream.h"

namespace supervisor {
namespace {

constexpr absl::Duration kDrainAtEnd = absl::Seconds(1);
constexpr absl::Duration kDrainAtClose = absl::Seconds(1);

}  // namespace

class LogPump::Impl {
 public:
  Impl(TroubleCallback on_trouble, FifoCallback on_fifo, RemadeCallback on_remade, TakeFifoCallback take_fifo)
      : directories_(loop_,
                     [this](int directory, const std::string& name) {
                       for (const auto& [unused, stream] : streams_) {
                         stream->NameGone(directory, name);
                       }
                     }),
        around_{loop_,
                peek_,
                directories_,
                compressor_,
                std::move(on_trouble),
                std::move(on_fifo),
                std::move(on_remade),
                std::move(take_fifo),
                forwarder_,
                total_bytes_} {
    // Signals are for the main thread; and SIGXFSZ must not end us before EFBIG is seen.
    const SignalsBlocked blocked;
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "logs");
      loop_.Run();
    });
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  ~Impl() {
    loop_.Post([this] {
      const MonoTime deadline = MonotonicNow() + kDrainAtEnd;
      for (const auto& [unused, stream] : streams_) {
        stream->Drain(deadline);
      }
      streams_.clear();
      loop_.Stop();
    });
    thread_.join();
  }

  void Post(Loop::Callback work) { loop_.Post(std::move(work)); }
  bool OnPumpThread() const { return std::this_thread::get_id() == thread_.get_id(); }

  // Pump's thread.
  absl::StatusOr<UniqueFd> Open(const std::string& name, const LogStreamOptions& options) {
    std::shared_ptr<LogStream>& stream = streams_[name];
    if (stream == nullptr) {
      stream = std::make_shared<LogStream>(around_, name, StatsOf(name), HubOf(name));
    }
    absl::Status why;
    switch (stream->Open(options, why)) {
      case LogStream::Opened::kYes:
        return stream->NewWriteEnd();
      case LogStream::Opened::kFileFailed:
        return why;
      case LogStream::Opened::kNoFifo:
        Forget(name);
        return why;
    }
    return why;
  }

  void Close(const std::string& name) {
    const auto found = streams_.find(name);
    if (found != streams_.end()) {
      found->second->Drain(MonotonicNow() + kDrainAtClose);
      found->second->RemoveFifo();
      found->second->ForwardNoMore();
      Forget(name);
    }
  }

  void Rename(const std::string& from, const std::string& old_file, const std::string& to,
              const LogStreamOptions& options) {
    const auto found = streams_.find(from);
    if (found != streams_.end()) {
      found->second->Drain(MonotonicNow() + kDrainAtClose);
    }
    if (const absl::Status moved = MoveLog(old_file, options.file_path); !moved.ok()) {
      LogWarning("a log keeps the name of before; what comes goes to one of the new name",
                 {{"stream", to}, {"error", std::string(moved.message())}});
    }
    around_.forwarder.GiveUpTo(from, ForwardMarkFile(options, to));
    if (found != streams_.end()) {
      // Before the old one closes the FIFO: what waits in it lives as long as somebody has it open.
      static_cast<void>(Open(to, options));
      Forget(from);
    }
  }

  void CloseAll() {
    const MonoTime deadline = MonotonicNow() + kDrainAtClose;
    for (const auto& [unused, stream] : streams_) {
      stream->Drain(deadline);
      stream->RemoveFifo();
      stream->ForwardNoMore();
    }
    streams_.clear();
    const std::lock_guard lock(mutex_);
    stats_.clear();
  }

  void Flush(const std::string& name, absl::Duration timeout, std::function<void()> done) {
    const auto found = streams_.find(name);
    if (found == streams_.end()) {
      done();
      return;
    }
    found->second->Flush(timeout, std::move(done));
  }

  void ReopenAll() {
    for (const auto& [unused, stream] : streams_) {
      stream->Reopen();
    }
  }

  // Any thread.
  uint64_t total_bytes() const { return total_bytes_.load(std::memory_order_relaxed); }
  LogStreamStats Stats(const std::string& name) const {
    std::shared_ptr<LogStream::SharedStats> shared;
    {
      const std::lock_guard lock(mutex_);
      const auto found = stats_.find(name);
      if (found == stats_.end()) {
        return {};
      }
      shared = found->second;
    }
    const std::lock_guard lock(shared->mutex);
    return shared->stats;
  }

  std::shared_ptr<GrowthHub> HubOf(const std::string& name) {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<GrowthHub> hub = hubs_[name].lock();
    if (hub == nullptr) {
      std::erase_if(hubs_, [](const auto& entry) { return entry.second.expired(); });
      hub = std::make_shared<GrowthHub>(name);
      hubs_[name] = hub;
    }
    return hub;
  }

 private:
  std::shared_ptr<LogStream::SharedStats> StatsOf(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return stats_[name] = std::make_shared<LogStream::SharedStats>();
  }

  void Forget(const std::string& name) {
    streams_.erase(name);
    const std::lock_guard lock(mutex_);
    stats_.erase(name);
  }

  std::atomic<uint64_t> total_bytes_{0};
  Loop loop_;
  PipePeek peek_;
  DirectoryWatch directories_;
  std::map<std::string, std::shared_ptr<LogStream>> streams_;
  Compressor compressor_;
  Forwarder forwarder_;  // when this goes, the pump's thread has ended, with everything in the files
  LogStream::Surroundings around_;

  mutable std::mutex mutex_;  // over the two maps, not over what they point to
  std::map<std::string, std::shared_ptr<LogStream::SharedStats>> stats_;
  std::map<std::string, std::weak_ptr<GrowthHub>> hubs_;

  std::thread thread_;
};

LogPump::LogPump(TroubleCallback on_trouble, FifoCallback on_fifo, RemadeCallback on_remade, TakeFifoCallback take_fifo)
    : impl_(std::make_unique<Impl>(std::move(on_trouble), std::move(on_fifo), std::move(on_remade),
                                   std::move(take_fifo))) {}

LogPump::~LogPump() = default;

void LogPump::OpenAsync(const std::string& stream, const LogStreamOptions& options,
                        std::function<void(absl::StatusOr<UniqueFd>)> done) {
  impl_->Post([impl = impl_.get(), stream, options, done = std::move(done)] { done(impl->Open(stream, options)); });
}

absl::StatusOr<UniqueFd> LogPump::Open(const std::string& stream, const LogStreamOptions& options) {
  if (impl_->OnPumpThread()) {
    return impl_->Open(stream, options);
  }
  std::promise<absl::StatusOr<UniqueFd>> promise;
  auto opened = promise.get_future();
  OpenAsync(stream, options, [&promise](absl::StatusOr<UniqueFd> result) { promise.set_value(std::move(result)); });
  return opened.get();
}

void LogPump::Flush(const std::string& stream, absl::Duration timeout, std::function<void()> done) {
  impl_->Post([impl = impl_.get(), stream, timeout, done = std::move(done)] { impl->Flush(stream, timeout, done); });
}

void LogPump::Close(const std::string& stream) {
  impl_->Post([impl = impl_.get(), stream] { impl->Close(stream); });
}

void LogPump::Rename(const std::string& from, const std::string& old_file, const std::string& to,
                     const LogStreamOptions& options) {
  impl_->Post([impl = impl_.get(), from, old_file, to, options] { impl->Rename(from, old_file, to, options); });
}

void LogPump::CloseAll() {
  impl_->Post([impl = impl_.get()] { impl->CloseAll(); });
}

void LogPump::ReopenAll() {
  impl_->Post([impl = impl_.get()] { impl->ReopenAll(); });
}

LogStreamStats LogPump::Stats(const std::string& stream) const { return impl_->Stats(stream); }

uint64_t LogPump::TotalBytes() const { return impl_->total_bytes(); }

std::unique_ptr<LogPump::Subscription> LogPump::Subscribe(const std::string& stream, GrowthCallback on_growth) {
  return impl_->HubOf(stream)->Subscribe(std::move(on_growth));
}

}  // namespace supervisor
