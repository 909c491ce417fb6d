#include "daemon/startup/reaped_exits.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "common/fail_point.h"

namespace supervisor {
namespace {

constexpr int kPipeSize = 1 << 20;  // as large as the guardian's
constexpr absl::Duration kSettleAfter = absl::Milliseconds(5);

}  // namespace

ReapedExits::ReapedExits(Loop& loop, Worker& files, int fd, Listener listener)
    : loop_(loop), files_(files), fd_(fd), listener_(std::move(listener)) {
  settle_timer_ = loop_.NewTimer([this] { Settle(); });
  int ends[2];
  if (fd_ >= 0 && pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0) {
    scratch_read_.Reset(ends[0]);
    scratch_write_.Reset(ends[1]);
    fcntl(ends[1], F_SETPIPE_SZ, kPipeSize);  // smaller where that is refused: fewer are seen at once
  }
}

// All that lies in the pipe, which is what was there before and what has come behind it.
void ReapedExits::Look() {
  const ssize_t copied = fd_ < 0 ? 0 : tee(fd_, scratch_write_.get(), kPipeSize, SPLICE_F_NONBLOCK);
  if (copied <= 0) {
    return;
  }
  FailPoint(FailPointId::kReportPeeked);
  std::vector<ReapedRecord> seen(static_cast<size_t>(copied) / sizeof(ReapedRecord));
  char* to = reinterpret_cast<char*>(seen.data());
  for (size_t left = static_cast<size_t>(copied); left > 0;) {
    // Records are written whole, so what was copied is whole too; a page of the pipe is read at a time.
    const ssize_t got = read(scratch_read_.get(), to, left);
    if (got <= 0) {
      return;
    }
    to += got;
    left -= static_cast<size_t>(got);
  }
  if (seen.size() > waiting_.size()) {
    waiting_ = std::move(seen);
  }
}

std::optional<WaitStatus> ReapedExits::Find(pid_t pid) {
  Look();
  // The last one: an earlier process may have had that pid.
  const auto found = std::find_if(waiting_.rbegin(), waiting_.rend(), [pid](const auto& r) { return r.pid == pid; });
  return found == waiting_.rend() ? std::nullopt : std::optional(WaitStatus::FromRaw(found->status));
}

void ReapedExits::Watch() {
  if (fd_ < 0) {
    return;
  }
  watch_ = loop_.WatchFd(fd_, Loop::Interest::kRead, [this](Loop::Ready) {
    watch_.reset();  // what stays in there would call us over and over
    Tell();
  });
}

void ReapedExits::Tell() {
  Look();
  for (; told_ < waiting_.size(); ++told_) {
    listener_.on_exit(waiting_[told_].pid, WaitStatus::FromRaw(waiting_[told_].status));
  }
  settle_timer_->ArmAfter(kSettleAfter);
}

// Those whose end nobody waits for any more: what followed from it has been posted to the files' thread.
void ReapedExits::Settle() {
  const auto first_awaited = std::find_if(waiting_.begin(), waiting_.end(),
                                          [this](const ReapedRecord& r) { return listener_.is_awaited(r.pid); });
  const auto settled = static_cast<size_t>(first_awaited - waiting_.begin());
  files_.Post([this, settled] {
    loop_.Post([this, settled] {
      Take(settled);
      if (waiting_.empty()) {
        Watch();
      } else {
        Tell();
      }
    });
  });
}

void ReapedExits::Take(size_t count) {
  std::vector<ReapedRecord> taken(count);
  const ssize_t got = count > 0 ? read(fd_, taken.data(), count * sizeof(ReapedRecord)) : 0;
  const size_t records = static_cast<size_t>(std::max<ssize_t>(got, 0)) / sizeof(ReapedRecord);
  FailPoint(FailPointId::kReportTaken);
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(records));
  told_ -= std::min(told_, records);
}

}  // namespace supervisor
