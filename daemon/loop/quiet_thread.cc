#include "daemon/loop/quiet_thread.h"

#include <pthread.h>

#include <csignal>
#include <system_error>
#include <utility>

namespace supervisor {

std::thread StartQuietThread(std::function<void()> work) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread;
  try {
    thread = std::thread(std::move(work));
  } catch (const std::system_error&) {  // EAGAIN: the caller sees a thread that is none
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace supervisor
