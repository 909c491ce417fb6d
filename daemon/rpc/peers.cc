#include "daemon/rpc/peers.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sockios.h>
#include <pwd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "common/errno_status.h"

namespace supervisor {
namespace {

constexpr int kFirstNumber = 512;
constexpr int kNumbers = 8192;

std::string CommandOf(pid_t pid) {
  const UniqueFd fd(open(fmt::format("/proc/{}/comm", pid).c_str(), O_RDONLY | O_CLOEXEC));
  char name[64];
  const ssize_t got = fd ? read(fd.get(), name, sizeof(name)) : 0;
  std::string command(name, got > 0 ? static_cast<size_t>(got) : 0);
  while (!command.empty() && command.back() == '\n') {
    command.pop_back();
  }
  std::ranges::replace_if(
      command, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return command;
}

std::vector<gid_t> GroupsOf(int fd) {
  std::vector<gid_t> groups(64);
  auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  while (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0) {
    if (errno != ERANGE || size <= groups.size() * sizeof(gid_t)) {
      return {};
    }
    groups.resize(size / sizeof(gid_t));
  }
  groups.resize(size / sizeof(gid_t));
  return groups;
}

// 0: no socket.
uint64_t CookieOf(int fd) {
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

// Numbers above those that everything else here gets, as far as the limit allows.
int HighestNumber() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<int>(std::min<rlim_t>(limit.rlim_cur, kFirstNumber + kNumbers)) - 1;
}

}  // namespace

absl::StatusOr<Peer> PeerOf(int connection) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return ErrnoToStatus(errno, "SO_PEERCRED");
  }
  return Peer{.pid = credentials.pid,
              .uid = credentials.uid,
              .gid = credentials.gid,
              .groups = GroupsOf(connection),
              .command = CommandOf(credentials.pid)};
}

absl::StatusOr<UniqueFd> Peers::Register(UniqueFd connection, Peer peer) {
  const std::lock_guard lock(mutex_);
  const int highest = HighestNumber();
  if (next_ < kFirstNumber || next_ > highest) {
    next_ = kFirstNumber;
  }
  UniqueFd moved(fcntl(connection.get(), F_DUPFD_CLOEXEC, next_));
  if (!moved) {
    moved.Reset(fcntl(connection.get(), F_DUPFD_CLOEXEC, 3));  // a low limit on descriptors: any number will do
  }
  if (!moved) {
    return ErrnoToStatus(errno, "a descriptor for a connection");
  }
  next_ = moved.get() + 1;
  connections_[moved.get()] = {.peer = std::move(peer), .cookie = CookieOf(moved.get()), .order = ++last_order_};
  return moved;
}

std::optional<Peer> Peers::Find(const std::string& peer) const {
  constexpr std::string_view kPrefix = "fd:";
  if (!peer.starts_with(kPrefix)) {
    return std::nullopt;
  }
  int number = -1;
  std::from_chars(peer.data() + kPrefix.size(), peer.data() + peer.size(), number);
  const std::lock_guard lock(mutex_);
  const auto found = connections_.find(number);
  if (found == connections_.end()) {
    return std::nullopt;
  }
  found->second.has_called = true;
  return found->second.peer;
}

bool Peers::HangUpSilent() {
  const std::lock_guard lock(mutex_);
  std::pair<const int, Connection>* oldest = nullptr;
  for (auto& entry : connections_) {
    const Connection& connection = entry.second;
    if (connection.has_called || connection.hung_up || (oldest != nullptr && oldest->second.order < connection.order)) {
      continue;
    }
    if (const uint64_t cookie = CookieOf(entry.first); cookie != 0 && cookie == connection.cookie) {
      oldest = &entry;
    }
  }
  if (oldest == nullptr) {
    return false;
  }
  oldest->second.hung_up = true;
  shutdown(oldest->first, SHUT_RDWR);
  return true;
}

void Peers::HangUp(Whom whom) {
  const std::lock_guard lock(mutex_);
  for (const auto& [fd, connection] : connections_) {
    if (const uint64_t cookie = CookieOf(fd); cookie == 0 || cookie != connection.cookie) {
      continue;
    }
    int unread = 0;
    if (whom == Whom::kAll || (ioctl(fd, SIOCOUTQ, &unread) == 0 && unread > 0)) {
      shutdown(fd, SHUT_RDWR);
    }
  }
}

bool IsAllowedToAct(const Peer& peer, std::optional<gid_t> group) {
  return peer.uid == 0 || peer.uid == geteuid() ||
         (group && (peer.gid == *group || std::ranges::count(peer.groups, *group) > 0));
}

absl::Status MayAct(const Peer& peer, std::optional<gid_t> group, const std::string& group_name) {
  if (IsAllowedToAct(peer, group)) {
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError(
      fmt::format("{} may only look: to act one must be root, {}{}", DescribePeer(peer),
                  geteuid() == 0 ? "" : fmt::format("uid {}, ", geteuid()),
                  group ? fmt::format("or in the group {} (global.socket_group)", group_name)
                        : "or in the group that global.socket_group names (none is configured)"));
}

std::string DescribePeer(const Peer& peer) {
  char buffer[4096];
  passwd entry{};
  passwd* found = nullptr;
  getpwuid_r(peer.uid, &entry, buffer, sizeof(buffer), &found);
  std::string text = fmt::format("uid {}", peer.uid);
  if (found != nullptr) {
    text += fmt::format(" ({})", found->pw_name);
  }
  text += fmt::format(" pid {}", peer.pid);
  if (!peer.command.empty()) {
    text += fmt::format(" ({})", peer.command);
  }
  return text;
}

}  // namespace supervisor
