#include "ctl/socket_owner.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "common/errno_status.h"

namespace supervisor {
namespace {

// The first component of the path that its owner, a stranger, could have made without being asked; empty where none is.
std::string StrangersComponent(const std::string& socket) {
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(socket.c_str(), nullptr), &std::free);
  const std::string path = real != nullptr ? real.get() : socket;
  for (size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    std::string component = path.substr(0, path.find('/', slash + 1));
    struct stat directory {};
    struct stat entry {};
    if (stat(path.substr(0, slash + 1).c_str(), &directory) == 0 && (directory.st_mode & (S_IWGRP | S_IWOTH)) != 0 &&
        lstat(component.c_str(), &entry) == 0 && entry.st_uid != 0 && entry.st_uid != geteuid()) {
      return component;
    }
  }
  return {};
}

Failure Refuse(const std::string& socket, const std::string& why) {
  return {
      .exit_code = ExitCode::kUnreachable,
      .code = "unavailable",
      .message = fmt::format("nothing was sent to {}: {}\nName your daemon's socket with --socket PATH.", socket, why)};
}

}  // namespace

std::optional<Failure> CheckSocketOwner(int fd, const std::string& socket, bool socket_is_default) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return Refuse(socket, fmt::format("the kernel does not say who listens there: {}", ErrnoText(errno)));
  }
  if (peer.uid == 0 || peer.uid == geteuid()) {
    return std::nullopt;
  }
  if (socket_is_default) {
    return Refuse(socket, fmt::format("uid {} listens there, neither root nor you (uid {})", peer.uid, geteuid()));
  }
  const std::string component = geteuid() == 0 ? "" : StrangersComponent(socket);
  return component.empty() ? std::nullopt
                           : std::optional<Failure>(Refuse(
                                 socket, fmt::format("uid {} listens there, and {} stands where anybody could have put "
                                                     "it (it belongs to neither root nor you)",
                                                     peer.uid, component)));
}

}  // namespace supervisor
