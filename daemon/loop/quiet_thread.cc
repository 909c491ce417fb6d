#include "daemon/loop/quiet_thread.h"

#include <system_error>
#include <utility>

#include "common/signals_blocked.h"

namespace supervisor {

std::thread StartQuietThread(std::function<void()> work) {
  const SignalsBlocked blocked;
  std::thread thread;
  try {
    thread = std::thread(std::move(work));
  } catch (const std::system_error&) {  // EAGAIN: the caller sees a thread that is none
  }
  return thread;
}

}  // namespace supervisor
