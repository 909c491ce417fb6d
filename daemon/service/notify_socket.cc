#include "daemon/service/notify_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <utility>

#include "common/errno_status.h"

namespace supervisor {
namespace {

constexpr size_t kLargestDatagram = 4096;
constexpr int kDatagramsATurn = 32;
constexpr size_t kLongestStatus = 256;

template <typename Number>
std::optional<Number> ParseNumber(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? std::optional<Number>(number) : std::nullopt;
}

}  // namespace

std::optional<absl::Duration> ParseMicroseconds(std::string_view text) {
  constexpr uint64_t kCentury = 3'155'760'000'000'000;
  const std::optional<uint64_t> number = ParseNumber<uint64_t>(text);
  return number && *number <= kCentury
             ? std::optional<absl::Duration>(absl::Microseconds(static_cast<int64_t>(*number)))
             : std::nullopt;
}

Notification ParseNotification(std::string_view text) {
  Notification notification;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line == "READY=1") {
      notification.ready = true;
    } else if (line == "STOPPING=1") {
      notification.stopping = true;
    } else if (line == "RELOADING=1") {
      notification.reloading = true;
    } else if (line == "WATCHDOG=1") {
      notification.alive = true;
    } else if (line == "WATCHDOG=trigger") {
      notification.hung = true;
    } else if (line.starts_with("WATCHDOG_USEC=")) {
      notification.watchdog = ParseMicroseconds(line.substr(14));
    } else if (line.starts_with("EXTEND_TIMEOUT_USEC=")) {
      notification.extend = ParseMicroseconds(line.substr(20)).value_or(absl::ZeroDuration());
    } else if (line.starts_with("MAINPID=")) {
      const auto pid = ParseNumber<pid_t>(line.substr(8));
      notification.main_pid = pid && *pid > 1 ? *pid : 0;
    } else if (line.starts_with("STATUS=")) {
      notification.status = line.substr(7, kLongestStatus);
      std::ranges::replace_if(
          notification.status, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
    }
  }
  return notification;
}

NotifySocket::NotifySocket(std::string path, UniqueFd fd, std::function<void(const Notification&)> callback)
    : path_(std::move(path)), fd_(std::move(fd)), callback_(std::move(callback)) {}

NotifySocket::~NotifySocket() {
  if (!path_.empty()) {
    unlink(path_.c_str());
  }
}

absl::StatusOr<std::unique_ptr<NotifySocket>> NotifySocket::Open(Loop& loop, const std::string& path, uid_t owner,
                                                                 std::function<void(const Notification&)> callback) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(fmt::format("notify socket {}: longer than the {} bytes that unix(7) allows",
                                                  path, sizeof(address.sun_path) - 1));
  }
  path.copy(address.sun_path, path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  unlink(path.c_str());
  if (!fd || setsockopt(fd.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0 ||
      bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return ErrnoToStatus(errno, fmt::format("notify socket {}", path));
  }
  // The directory above is ours alone, so nobody gets here between bind and these.
  if (chmod(path.c_str(), 0600) != 0 ||
      (owner != geteuid() && chown(path.c_str(), owner, static_cast<gid_t>(-1)) != 0)) {
    return ErrnoToStatus(errno, fmt::format("notify socket {}", path));
  }
  return Resume(loop, path, std::move(fd), std::move(callback));
}

std::unique_ptr<NotifySocket> NotifySocket::Resume(Loop& loop, const std::string& path, UniqueFd fd,
                                                   std::function<void(const Notification&)> callback) {
  std::unique_ptr<NotifySocket> notify(new NotifySocket(path, std::move(fd), std::move(callback)));
  notify->watch_ =
      loop.WatchFd(notify->fd_.get(), Loop::Interest::kRead, [raw = notify.get()](Loop::Ready) { raw->Receive(); });
  return notify;
}

void NotifySocket::Receive() {
  for (int i = 0; i < kDatagramsATurn; ++i) {
    char buffer[kLargestDatagram];
    alignas(cmsghdr) char control[256];
    iovec part{buffer, sizeof(buffer)};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t got = recvmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0) {
      return;
    }
    ucred sender{};
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
        std::memcpy(&sender, CMSG_DATA(header), sizeof(sender));
      } else if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        // FDSTORE and the like are not offered: what was sent along is closed, or it would be ours for ever.
        const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t n = 0; n < count; ++n) {
          int passed = -1;
          std::memcpy(&passed, CMSG_DATA(header) + n * sizeof(int), sizeof(int));
          close(passed);
        }
      }
    }
    Notification notification = ParseNotification(std::string_view(buffer, static_cast<size_t>(got)));
    notification.sender = sender.pid;
    notification.sender_uid = sender.uid;
    callback_(notification);
  }
}

}  // namespace supervisor
