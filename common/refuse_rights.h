#pragma once

#include <sys/socket.h>

namespace supervisor {

// A process that receives from a Unix socket, or closes one, may have to wait for what a stranger has sent along: the
// last close of a TCP socket with SO_LINGER or of a FUSE file takes as long as its maker likes. Since Linux 6.16 a
// socket can refuse descriptors: their sender gets EPERM (SO_PASSRIGHTS, socket(7)).

namespace internal {
inline constexpr int kSoPassRights = 83;  // Linux's include/uapi/asm-generic/socket.h, newer than Debian 12's headers
}

// To be called before anybody can send to the socket; those that a listening one accepts inherit it. False: the kernel
// does not know how.
inline bool RefuseRights(int fd) {
  const int off = 0;
  return setsockopt(fd, SOL_SOCKET, internal::kSoPassRights, &off, sizeof(off)) == 0;
}

inline bool RefusesRights(int fd) {
  int passes = 1;
  socklen_t size = sizeof(passes);
  return getsockopt(fd, SOL_SOCKET, internal::kSoPassRights, &passes, &size) == 0 && passes == 0;
}

}  // namespace supervisor
