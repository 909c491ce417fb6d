#include "daemon/service/notify_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <utility>

#include "common/close_aside.h"
#include "common/errno_status.h"
#include "common/fail_point.h"
#include "common/refuse_rights.h"

namespace supervisor {
namespace {

constexpr size_t kLargestDatagram = 4096;
constexpr int kDatagramsATurn = 32;
constexpr size_t kLongestStatus = 256;
constexpr absl::Duration kFirstPause = absl::Milliseconds(10);
constexpr absl::Duration kLongestPause = absl::Milliseconds(160);

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

namespace {

// The next datagram, or whether there is none. The buffer for what comes along has room for the sender's credentials
// alone: of descriptors nothing is installed, and MSG_CTRUNC says that there were some.
struct Received {
  ssize_t size = -1;
  bool had_rights = false;
  ucred sender{};
  char text[kLargestDatagram] = {};
};
void ReceiveOne(int fd, int flags, Received& received) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
  iovec part{received.text, sizeof(received.text)};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  received.size = recvmsg(fd, &message, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  received.had_rights = received.size >= 0 && (message.msg_flags & MSG_CTRUNC) != 0;
  received.sender = {};
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); received.size >= 0 && header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
      std::memcpy(&received.sender, CMSG_DATA(header), sizeof(received.sender));
    }
  }
}

Notification NotificationOf(const Received& received) {
  Notification notification =
      ParseNotification(std::string_view(received.text, static_cast<size_t>(std::max<ssize_t>(received.size, 0))));
  notification.sender = received.sender.pid;
  notification.sender_uid = received.sender.uid;
  return notification;
}

}  // namespace

NotifySocket::NotifySocket(Loop& loop, std::string path, UniqueFd fd, std::function<void(const Notification&)> callback)
    : loop_(loop),
      path_(std::move(path)),
      fd_(ClosedAside(std::move(fd))),
      callback_(std::move(callback)),
      resume_timer_(loop.NewTimer([this] { Watch(); })) {}

NotifySocket::~NotifySocket() {
  if (!path_.empty()) {
    unlink(path_.c_str());
  }
  watch_.reset();
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
  if (fd && FailPoint(FailPointId::kNotifyRights) == 0) {
    RefuseRights(fd.get());
  }
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
  std::unique_ptr<NotifySocket> notify(new NotifySocket(loop, path, std::move(fd), std::move(callback)));
  notify->refuses_rights_ = RefusesRights(notify->fd());
  notify->Watch();
  return notify;
}

void NotifySocket::Watch() {
  watch_ = loop_.WatchFd(fd_->get(), Loop::Interest::kRead, [this](Loop::Ready) { Receive(); });
}

void NotifySocket::Receive() {
  Received received;
  for (int i = 0; i < kDatagramsATurn && !is_aside_; ++i) {
    if (!refuses_rights_) {
      ReceiveOne(fd_->get(), MSG_PEEK, received);
      if (received.had_rights) {
        ReceiveAside();
        return;
      }
    }
    ReceiveOne(fd_->get(), 0, received);
    if (received.size < 0) {
      pause_ = absl::ZeroDuration();
      return;
    }
    callback_(NotificationOf(received));
  }
  Pause();
}

void NotifySocket::Pause() {
  if (watch_ != nullptr) {
    watch_.reset();
    pause_ = std::clamp(2 * pause_, kFirstPause, kLongestPause);
    resume_timer_->ArmAfter(pause_);
  }
}

void NotifySocket::ReceiveAside() {
  watch_.reset();
  resume_timer_->Disarm();
  is_aside_ = true;
  if (aside_ == nullptr) {
    aside_ = std::make_unique<HelperCalls>(loop_, 1);
  }
  aside_->Ask<Notification>(
      alive_,
      [fd = fd_]() -> absl::StatusOr<Notification> {
        Received received;
        ReceiveOne(fd->get(), 0, received);
        return NotificationOf(received);
      },
      [this](const absl::StatusOr<Notification>& notification) {
        is_aside_ = false;
        if (!notification.ok()) {  // no thread can be had
          resume_timer_->ArmAfter(kLongestPause);
          return;
        }
        Watch();
        callback_(*notification);
      });
}

}  // namespace supervisor
