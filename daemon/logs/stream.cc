#include "daemon/logs/stream.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "common/rotated_files.h"

namespace supervisor {
namespace {

constexpr size_t kIdleCapacity = 64u << 10;
constexpr size_t kBusyCapacity = 1u << 20;
constexpr absl::Duration kDrainTime = absl::Seconds(1);
constexpr absl::Duration kWatchAgainAfter = absl::Milliseconds(500);
constexpr absl::Duration kShrinkAfter = absl::Seconds(10);
constexpr absl::Duration kGrowthInterval = absl::Milliseconds(1);

}  // namespace

LogStream::LogStream(Surroundings& surroundings, std::string name, std::shared_ptr<SharedStats> shared,
                     std::shared_ptr<GrowthHub> hub)
    : around_(surroundings), name_(std::move(name)), shared_(std::move(shared)), hub_(std::move(hub)) {
  retry_timer_ = around_.loop.NewTimer([this] { Retry(); });
  check_timer_ = around_.loop.NewTimer([this] { CheckFile(); });
  growth_timer_ = around_.loop.NewTimer([this] {
    growth_armed_ = false;
    TellGrowth();
  });
  shrink_timer_ = around_.loop.NewTimer([this] { ShrinkWhenIdle(); });
}

LogStream::~LogStream() {
  for (const PendingFlush& flush : flushes_) {
    flush.done();
  }
  around_.directories.Remove(watched_directory_);
}

LogStream::Opened LogStream::Open(const LogStreamOptions& options, absl::Status& why) {
  if (fifo_ && fifo_->path() != options.fifo_path) {
    Drain(MonotonicNow() + kDrainTime);
    watch_.reset();
    RemoveFifo();
    fifo_.reset();
  }
  const Fifo::Access access{.uid = options.fifo_uid, .gid = options.fifo_gid, .mode = options.fifo_mode};
  if (!fifo_) {
    const UniqueFd held = around_.take_fifo ? around_.take_fifo(options.fifo_path) : UniqueFd();
    absl::StatusOr<Fifo> opened =
        held ? Fifo::Reopen(options.fifo_path, held.get(), access) : Fifo::Open(options.fifo_path, access);
    if (!opened.ok()) {
      why = opened.status();
      return Opened::kNoFifo;
    }
    fifo_ = std::make_unique<Fifo>(*std::move(opened));
    if (around_.on_fifo) {
      around_.on_fifo(fifo_->path(), fifo_->read_end());
    }
    capacity_ = fifo_->Capacity();
    if (capacity_ > kIdleCapacity) {
      shrink_timer_->ArmAfter(kShrinkAfter);
    }
  } else if (const absl::Status owned = fifo_->SetAccess(access); !owned.ok()) {
    why = owned;
    return Opened::kNoFifo;
  }
  if (capture_ && options_.file_path != options.file_path) {
    Drain(MonotonicNow() + kDrainTime);
    capture_.reset();
  }
  options_ = options;
  if (capture_) {
    capture_->SetOptions(options);
  } else {
    capture_ = std::make_unique<Capture>(around_.peek, options);
  }
  why = capture_->Check(MonotonicNow());
  if (!why.ok()) {
    SetForwarding();
    if (state_ == State::kCapturing) {
      StopFor(why);
    }
    return Opened::kFileFailed;
  }
  SetForwarding();
  WatchDirectory();
  ShowError();
  TidyRotatedFiles();
  StartCompression();
  if (state_ == State::kCapturing) {
    WatchFifo();
  } else {
    Retry();
  }
  return Opened::kYes;
}

std::string ForwardMarkFile(const LogStreamOptions& options, const std::string& stream) {
  return (std::filesystem::path(options.fifo_path).parent_path() / (stream + ".forwarded")).string();
}

// Before the service writes: from the log's present end on.
void LogStream::SetForwarding() {
  Forwarder::Spec spec{.to = options_.forward,
                       .name = options_.forward_name,
                       .log_file = options_.file_path,
                       .mark_file = ForwardMarkFile(options_, name_),
                       .begin = std::nullopt};
  if (const auto facts = capture_->file().is_open() ? capture_->file().Facts() : std::nullopt) {
    spec.begin = LogPosition{.file = facts->id, .offset = facts->size};
  }
  around_.forwarder.Set(name_, spec, hub_, [shared = shared_](uint64_t bytes) {
    const std::lock_guard lock(shared->mutex);
    shared->stats.forward_missed_bytes += bytes;
    shared->stats.forward_missed_more |= bytes == 0;
  });
}

absl::StatusOr<UniqueFd> LogStream::NewWriteEnd() const { return fifo_->NewWriteEnd(); }

void LogStream::RemoveFifo() const {
  fifo_->Remove();
  if (around_.on_fifo) {
    around_.on_fifo(fifo_->path(), -1);
  }
}

void LogStream::WatchFifo() {
  if (!watch_) {
    watch_ = around_.loop.WatchFd(fifo_->read_end(), Loop::Interest::kRead, [this](Loop::Ready) { OnReadable(); });
    if (!watch_) {
      retry_timer_->ArmAfter(kWatchAgainAfter);  // the kernel has no memory now
    }
  }
}

void LogStream::WatchDirectory() {
  const LogFile& file = capture_->file();
  if (!file.is_open() || watched_id_ == file.directory_id()) {
    return;
  }
  const int before = std::exchange(watched_directory_, around_.directories.Add(file.directory()));
  watched_id_ = file.directory_id();
  around_.directories.Remove(before);
  // What went between the making and the watching of a new directory, that itself perhaps, nobody has told.
  if (std::exchange(has_watched_, true)) {
    ArmCheck();
  }
}

void LogStream::OnReadable() {
  switch (state_) {
    case State::kCapturing: {
      const Capture::Result result = capture_->Turn(*fifo_, kTurnBytes, MonotonicNow());
      Account(result);
      Settle(result);
      return;
    }
    case State::kWaiting:
      return;
    case State::kDropping:
      if (try_due_) {
        Retry();
        return;
      }
      Account(capture_->Drop(*fifo_, kTurnBytes));
      SettleFlushes();
      return;
  }
}

// What a turn has brought.
void LogStream::Settle(const Capture::Result& result) {
  WatchDirectory();
  AdaptCapacity(result.waiting);
  if (!result.status.ok() || result.deleted) {
    StopFor(result.status);
  }
  ShowError();
  if (result.rotations > 0) {
    StartCompression();
  }
  if (result.moved > 0 || result.rotations > 0) {
    TellGrowth();
  }
  SettleFlushes();
}

void LogStream::Account(const Capture::Result& result) {
  consumed_ += result.moved + result.dropped;
  around_.total_bytes.fetch_add(result.moved, std::memory_order_relaxed);
  const std::lock_guard lock(shared_->mutex);
  shared_->stats.captured_bytes += result.moved;
  shared_->stats.dropped_bytes += result.dropped;
  shared_->stats.rotations += result.rotations;
}

void LogStream::TellGrowth() {
  if (growth_armed_ || !hub_->HasSubscribers()) {
    return;
  }
  const MonoTime now = MonotonicNow();
  if (now - told_at_ < kGrowthInterval) {
    growth_armed_ = true;
    growth_timer_->ArmAt(told_at_ + kGrowthInterval);
    return;
  }
  told_at_ = now;
  hub_->Tell();
}

void LogStream::Flush(absl::Duration timeout, std::function<void()> done) {
  const uint64_t target = consumed_ + fifo_->WaitingBytes();
  if (target == consumed_) {
    done();
    return;
  }
  flushes_.push_back({target, std::move(done), nullptr});
  const auto self = std::prev(flushes_.end());
  self->timer = around_.loop.NewTimer([this, self] {
    const auto finished = std::move(self->done);
    flushes_.erase(self);
    finished();
  });
  self->timer->ArmAfter(timeout);
}

void LogStream::SettleFlushes() {
  for (auto flush = flushes_.begin(); flush != flushes_.end();) {
    if (flush->target > consumed_) {
      ++flush;
      continue;
    }
    const auto finished = std::move(flush->done);
    flush = flushes_.erase(flush);
    finished();
  }
}

void LogStream::Drain(MonoTime deadline) {
  const uint64_t target = consumed_ + fifo_->WaitingBytes();
  for (MonoTime now = MonotonicNow(); capture_ && consumed_ < target && now < deadline; now = MonotonicNow()) {
    const Capture::Result result = capture_->Turn(*fifo_, kTurnBytes, now);
    Account(result);
    if (!result.status.ok() || (result.moved + result.dropped + result.rotations == 0 && !result.deleted)) {
      return;
    }
  }
}

// A pipe's buffer counts against a limit per user, so only a stream that fills it gets a large one.
void LogStream::AdaptCapacity(uint64_t waiting) {
  if (capacity_ >= kBusyCapacity || waiting < capacity_ / 4 * 3) {
    return;
  }
  const MonoTime now = MonotonicNow();
  if (now < grow_again_at_) {
    return;
  }
  grow_again_at_ = now + kShrinkAfter;
  capacity_ = fifo_->Resize(kBusyCapacity);
  consumed_when_grown_ = consumed_;
  if (capacity_ > kIdleCapacity) {
    shrink_timer_->ArmAfter(kShrinkAfter);
  }
}

void LogStream::ShrinkWhenIdle() {
  if (consumed_ - consumed_when_grown_ < kBusyCapacity) {
    capacity_ = fifo_->Resize(kIdleCapacity);
  }
  consumed_when_grown_ = consumed_;
  if (capacity_ > kIdleCapacity) {
    shrink_timer_->ArmAfter(kShrinkAfter);
  }
}

}  // namespace supervisor
