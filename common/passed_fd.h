#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>
#include <cstring>

#include "common/unique_fd.h"

namespace supervisor {

// Receives one message and the descriptor that came with it (SCM_RIGHTS: unix(7)), if one did. What recvmsg(2) returns;
// of a longer message the first `size` bytes. Allocates nothing.
inline ssize_t ReceiveWithFd(int socket, int flags, char* text, size_t size, UniqueFd* fd) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part{text, size};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  const ssize_t got = recvmsg(socket, &header, flags | MSG_CMSG_CLOEXEC);
  fd->Reset();
  const cmsghdr* rights = got > 0 ? CMSG_FIRSTHDR(&header) : nullptr;
  if (rights != nullptr && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
    int passed = -1;
    std::memcpy(&passed, CMSG_DATA(rights), sizeof(passed));
    fd->Reset(passed);
  }
  return got;
}

// Sends one message and a descriptor along, which stays the caller's. What sendmsg(2) returns. Allocates nothing.
inline ssize_t SendWithFd(int socket, int flags, const char* text, size_t size, int fd) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec part{const_cast<char*>(text), size};  // sendmsg(2) only reads it
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(fd));
  std::memcpy(CMSG_DATA(rights), &fd, sizeof(fd));
  return sendmsg(socket, &header, flags | MSG_NOSIGNAL);
}

}  // namespace supervisor
