#include "common/close_aside.h"

#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <deque>
#include <latch>
#include <memory>
#include <mutex>
#include <utility>

#include "common/diag_log.h"
#include "common/refuse_rights.h"
#include "common/signals_blocked.h"

namespace supervisor {
namespace {

constexpr size_t kStackBytes = 256 << 10;
constexpr size_t kMostRights = 253;  // of one message: SCM_MAX_FD, unix(7)
// A datagram socket's queue is as long as net.unix.max_dgram_qlen, 10 or 512 as a rule.
constexpr int kLongestQueue = 4096;

struct Parting {
  explicit Parting(UniqueFd of) : fd(std::move(of)) {}
  UniqueFd fd;  // of the process's table; the thread has the same number in its own
  bool is_shared = false;
  std::latch is_copied{1};
  std::latch is_given_up{1};
};

// What comes along lands in the table of this thread: nothing is released yet.
void TakeWhatLiesIn(int socket) {
  char bytes[16 << 10];
  alignas(cmsghdr) char rights[CMSG_SPACE(kMostRights * sizeof(int))];
  ssize_t got = 1;
  for (int i = 0; i < kLongestQueue && got > 0; ++i) {
    iovec part{bytes, sizeof(bytes)};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = rights;
    message.msg_controllen = sizeof(rights);
    // Not glibc's: ThreadSanitizer takes what it receives for descriptors of the whole process.
    got = syscall(SYS_recvmsg, socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  }
}

void* TakeAlong(void* argument) {
  const std::unique_ptr<std::shared_ptr<Parting>> owned(static_cast<std::shared_ptr<Parting>*>(argument));
  Parting& parting = **owned;
  const int socket = parting.fd.get();
  if (unshare(CLONE_FILES) != 0) {
    parting.is_shared = true;
    parting.is_copied.count_down();
    parting.fd.Reset();  // waits here, if it must
    return nullptr;
  }
  // This table holds no other descriptor of the process: a reader elsewhere may wait for the end of one of them.
  syscall(SYS_close_range, 0U, static_cast<unsigned>(socket - 1), 0U);
  syscall(SYS_close_range, static_cast<unsigned>(socket + 1), ~0U, 0U);
  parting.is_copied.count_down();
  parting.is_given_up.wait();
  TakeWhatLiesIn(socket);
  return nullptr;
}

// False: no thread can be had, and the socket is still open.
bool PartWith(UniqueFd& socket) {
  const SignalsBlocked blocked;  // signals belong to the daemon's own thread
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  const auto parting = std::make_shared<Parting>(std::move(socket));
  auto argument = std::make_unique<std::shared_ptr<Parting>>(parting);
  pthread_t thread{};
  const bool is_created = pthread_create(&thread, &attributes, &TakeAlong, argument.get()) == 0;
  pthread_attr_destroy(&attributes);
  if (!is_created) {
    socket = std::move(parting->fd);
    return false;
  }
  static_cast<void>(argument.release());  // the thread's now
  parting->is_copied.wait();
  if (!parting->is_shared) {
    parting->fd.Reset();
    parting->is_given_up.count_down();
  }
  return true;
}

}  // namespace

void CloseAside(UniqueFd socket) {
  if (!socket || RefusesRights(socket.get())) {
    return;
  }
  shutdown(socket.get(), SHUT_RDWR);
  static std::mutex mutex;
  static auto* const waiting = new std::deque<UniqueFd>;  // NOLINT(cppcoreguidelines-owning-memory): for good
  const std::lock_guard lock(mutex);
  waiting->push_back(std::move(socket));
  while (!waiting->empty()) {
    if (!PartWith(waiting->front())) {
      LogWarning("a connection is closed later: no thread can be had for it",
                 {{"waiting", std::to_string(waiting->size())}});
      return;
    }
    waiting->pop_front();
  }
}

std::shared_ptr<UniqueFd> ClosedAside(UniqueFd socket) {
  return {new UniqueFd(std::move(socket)), [](UniqueFd* last) {
            CloseAside(std::move(*last));
            delete last;
          }};
}

}  // namespace supervisor
