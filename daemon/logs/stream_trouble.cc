// LogStream when the file is not as it should be: full, unwritable, deleted, replaced.

#include <algorithm>
#include <utility>

#include "common/diag_log.h"
#include "daemon/logs/stream.h"

namespace supervisor {
namespace {

constexpr absl::Duration kRetryWaiting = absl::Milliseconds(100);
constexpr absl::Duration kRetryDropping = absl::Milliseconds(500);
constexpr absl::Duration kPatience = absl::Seconds(1);
// A disk that is full again so soon does not hold up the service once more.
constexpr absl::Duration kPatienceReturnsAfter = absl::Seconds(10);
// Whoever deletes a directory is let finish before the file is made anew in it.
constexpr absl::Duration kCheckDelay = absl::Milliseconds(100);

}  // namespace

// Ok: the file was deleted, which is no trouble yet.
void LogStream::StopFor(const absl::Status& why) {
  state_ = State::kWaiting;
  watch_.reset();
  trouble_since_ = MonotonicNow();
  retry_timer_->ArmAfter(kRetryWaiting);
  if (why.ok()) {
    return;
  }
  write_error_ = std::string(why.message());
  ShowError();
  AdaptCapacity(capacity_);  // more of it waits meanwhile
  if (trouble_since_ - trouble_ended_ < kPatienceReturnsAfter) {
    EnterDropping();
  }
}

void LogStream::EnterDropping() {
  state_ = State::kDropping;
  try_due_ = false;
  retry_timer_->ArmAfter(kRetryDropping);
  WatchFifo();
}

void LogStream::Retry() {
  const MonoTime now = MonotonicNow();
  Capture::Result result = capture_->Turn(*fifo_, kTurnBytes, now);
  Account(result);
  if (result.moved == 0 && result.dropped == 0 && result.status.ok() && !result.deleted) {
    result.status = capture_->Check(now);  // nothing waits that could show whether it works again
  }
  // A disk that takes some and then no more is still full.
  const bool tried = result.moved > 0 || (result.dropped == 0 && capture_->MayWork());
  if (tried && result.status.ok() && !result.deleted) {
    Resume();
    Settle(result);
    return;
  }
  if (!result.status.ok()) {
    write_error_ = std::string(result.status.message());
  }
  ShowError();
  if (result.moved > 0) {
    TellGrowth();
  }
  SettleFlushes();
  if (state_ == State::kWaiting && now - trouble_since_ >= kPatience) {
    EnterDropping();
    return;
  }
  try_due_ = result.status.ok();
  retry_timer_->ArmAfter(state_ == State::kWaiting ? kRetryWaiting : kRetryDropping);
}

void LogStream::Resume() {
  state_ = State::kCapturing;
  retry_timer_->Disarm();
  if (!write_error_.empty()) {
    write_error_.clear();
    trouble_ended_ = MonotonicNow();
  }
  ShowError();
  WatchFifo();
}

// A file that went and came back is told once, as that or as the trouble that it was.
void LogStream::TellRemade() {
  const bool told_as_trouble = !shown_error_.empty();
  if (std::exchange(remade_told_, capture_->remade()) != capture_->remade() && !told_as_trouble && around_.on_remade) {
    around_.on_remade(name_, capture_->file().path());
  }
}

void LogStream::ShowError() {
  TellRemade();
  if (const std::string& error = capture_->file().access_error(); error != access_error_told_) {
    access_error_told_ = error;
    if (!error.empty()) {
      LogWarning("owner, group or mode of a log file could not be set", {{"stream", name_}, {"error", error}});
    }
  }
  const std::string& error = write_error_.empty() ? capture_->rotation_error() : write_error_;
  if (error == shown_error_) {
    return;
  }
  const bool changed_over = error.empty() != shown_error_.empty();
  shown_error_ = error;
  LogStreamStats stats;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stats.error = error;
    stats = shared_->stats;
  }
  if (changed_over && around_.on_trouble) {
    around_.on_trouble(name_, error, stats);
  }
}

void LogStream::Reopen() {
  if (state_ != State::kCapturing) {
    return;  // it is tried all the time
  }
  if (const absl::Status opened = capture_->Reopen(MonotonicNow()); !opened.ok()) {
    StopFor(opened);
  }
  WatchDirectory();
}

void LogStream::NameGone(int directory, const std::string& name) {
  if (directory != DirectoryWatch::kAll) {
    if (directory != watched_directory_ || (!name.empty() && name != capture_->file().base())) {
      return;
    }
    if (name.empty()) {
      around_.directories.Remove(std::exchange(watched_directory_, DirectoryWatch::kNone));
      watched_id_ = {};
    }
  }
  ArmCheck();
}

void LogStream::ArmCheck() {
  if (!std::exchange(check_armed_, true)) {
    check_timer_->ArmAfter(kCheckDelay);
  }
}

void LogStream::CheckFile() {
  check_armed_ = false;
  if (state_ != State::kCapturing) {
    return;
  }
  if (const absl::Status checked = capture_->Check(MonotonicNow()); !checked.ok()) {
    StopFor(checked);
  }
  ShowError();
  WatchDirectory();
}

}  // namespace supervisor
