#include "daemon/process/held_descriptors.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "common/errno_status.h"
#include "common/passed_fd.h"

namespace supervisor {
namespace {

constexpr size_t kMostName = 256;
// Each message costs the kernel some 800 bytes of this; root may exceed net.core.wmem_max.
constexpr int kQueueBytes = 64 << 20;
constexpr size_t kSlack = 64;  // messages of no use that are worth no tidying

}  // namespace

std::pair<int, int> HeldDescriptors::MakePair() {
  int ends[2] = {-1, -1};
  // style-ok(cloexec): every daemon inherits both ends
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends) != 0) {
    return {-1, -1};
  }
  if (setsockopt(ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &kQueueBytes, sizeof(kQueueBytes)) != 0) {
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &kQueueBytes, sizeof(kQueueBytes));
  }
  return {ends[0], ends[1]};
}

HeldDescriptors::HeldDescriptors(int send_fd, int receive_fd) : send_fd_(send_fd), receive_fd_(receive_fd) { Load(); }

HeldDescriptors::FileKey HeldDescriptors::KeyOf(int fd) {
  struct stat info {};
  return fstat(fd, &info) == 0 ? FileKey{info.st_dev, info.st_ino} : FileKey{};
}

bool HeldDescriptors::Receive(int flags, Message& message) const {
  char name[kMostName];
  const ssize_t got = ReceiveWithFd(receive_fd_, flags | MSG_DONTWAIT, name, sizeof(name), &message.fd);
  if (got <= 0) {
    return false;
  }
  message.name.assign(name, static_cast<size_t>(got));
  return true;
}

// Each look begins behind what the last one has seen (SO_PEEK_OFF, socket(7)).
void HeldDescriptors::Load() {
  const int from_start = 0;
  const int off = -1;
  if (receive_fd_ < 0 || setsockopt(receive_fd_, SOL_SOCKET, SO_PEEK_OFF, &from_start, sizeof(from_start)) != 0) {
    return;
  }
  Message message;
  for (; Receive(MSG_PEEK, message); ++messages_) {
    struct stat info {};
    if (!message.fd || fstat(message.fd.get(), &info) != 0) {
      continue;
    }
    kept_.insert_or_assign(message.name, FileKey{info.st_dev, info.st_ino});
    to_take_.erase(message.name);
    if (S_ISSOCK(info.st_mode) || S_ISREG(info.st_mode)) {
      to_take_.emplace(message.name, std::move(message.fd));
    }
  }
  setsockopt(receive_fd_, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off));
}

absl::Status HeldDescriptors::Send(const std::string& name, int fd) {
  const std::string text = name.substr(0, kMostName);
  if (SendWithFd(send_fd_, MSG_DONTWAIT, text.data(), text.size(), fd) < 0) {
    return absl::ResourceExhaustedError(fmt::format("cannot be held for the next daemon: {}", ErrnoText(errno)));
  }
  ++messages_;
  return absl::OkStatus();
}

absl::Status HeldDescriptors::Keep(const std::string& name, int fd) {
  if (send_fd_ < 0) {
    return absl::OkStatus();
  }
  const std::lock_guard lock(mutex_);
  const FileKey key = KeyOf(fd);
  if (const auto found = to_take_.find(name); found != to_take_.end() && KeyOf(found->second.get()) != key) {
    to_take_.erase(found);  // another came in its place before anybody asked for it
  }
  if (const auto known = kept_.find(name); known != kept_.end() && known->second == key) {
    return absl::OkStatus();
  }
  if (messages_ > 2 * kept_.size() + kSlack) {
    Compact();
  }
  absl::Status status = Send(name, fd);
  if (!status.ok()) {
    Compact();
    status = Send(name, fd);
  }
  if (status.ok()) {
    kept_.insert_or_assign(name, key);
  }
  return status;
}

void HeldDescriptors::Forget(const std::string& name) {
  const std::lock_guard lock(mutex_);
  kept_.erase(name);
  to_take_.erase(name);
}

void HeldDescriptors::PutNamelessFifo(const std::string& name, UniqueFd fd) {
  const std::lock_guard lock(mutex_);
  to_take_.insert_or_assign(name, std::move(fd));
}

UniqueFd HeldDescriptors::Take(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = to_take_.find(name);
  if (found == to_take_.end()) {
    return {};
  }
  UniqueFd fd = std::move(found->second);
  to_take_.erase(found);
  return fd;
}

// Once round: what is of use goes to the end, and only then is it taken from the front, so that it is held at every
// instant. Where the queue is so full that nothing can be sent, what is of no use at its front goes, and no more.
void HeldDescriptors::Compact() {
  Message message;
  for (size_t left = std::exchange(messages_, 0); left > 0; --left) {
    if (!Receive(MSG_PEEK, message)) {
      return;
    }
    const auto kept = kept_.find(message.name);
    const bool is_of_use = kept != kept_.end() && message.fd && kept->second == KeyOf(message.fd.get());
    if (is_of_use && !Send(message.name, message.fd.get()).ok()) {
      messages_ += left;
      return;
    }
    Receive(0, message);
  }
}

}  // namespace supervisor
