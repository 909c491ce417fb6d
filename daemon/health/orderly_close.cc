#include "daemon/health/orderly_close.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

namespace supervisor {

OrderlyClose::OrderlyClose(Loop& loop) : loop_(loop), timer_(loop.NewTimer([this] { CloseOldest(); })) {}

void OrderlyClose::End(UniqueFd fd) {
  if (!fd || shutdown(fd.get(), SHUT_WR) != 0) {
    return;
  }
  Ending fresh{.fd = std::move(fd), .closes_at = MonotonicNow() + kLongest, .bytes = 0, .watch = nullptr};
  if (HasEnded(fresh)) {
    return;
  }
  const auto ending = ending_.insert(ending_.end(), std::move(fresh));
  ending->watch = loop_.WatchFd(ending->fd.get(), Loop::Interest::kRead, [this, ending](Loop::Ready /*ready*/) {
    if (HasEnded(*ending)) {
      Remove(ending);
    }
  });
  if (ending_.size() > kMostConnections) {
    ending_.pop_front();
  }
  timer_->ArmAt(ending_.front().closes_at);
}

// Reads what has come: true when the other end has ended, or sends more than is read for it.
bool OrderlyClose::HasEnded(Ending& ending) {
  std::array<char, 16384> dropped{};
  while (ending.bytes < kMostBytes) {
    const ssize_t count = recv(ending.fd.get(), dropped.data(), dropped.size(), MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      return count == 0 || errno != EAGAIN;
    }
    ending.bytes += static_cast<size_t>(count);
  }
  return true;
}

void OrderlyClose::Remove(std::list<Ending>::iterator ending) {
  ending_.erase(ending);
  if (!ending_.empty()) {
    timer_->ArmAt(ending_.front().closes_at);
    return;
  }
  timer_->Disarm();
  if (const auto done = std::exchange(when_idle_, nullptr)) {
    done();
  }
}

void OrderlyClose::CloseOldest() {
  const MonoTime now = MonotonicNow();
  while (!ending_.empty() && ending_.front().closes_at <= now) {
    Remove(ending_.begin());
  }
}

}  // namespace supervisor
