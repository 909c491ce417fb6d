#pragma once

#include <sys/signalfd.h>

#include <functional>
#include <memory>

#include "common/unique_fd.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// Reads the daemon's own signals (HandledSignals, process_setup.h) on the loop thread.
class SignalReader {
 public:
  // REQUIRES: the signals are blocked in every thread. `callback`: of those that are pending together the ones that
  // stop everything come first. The kernel gives the lower number first, whichever was sent first; a reload must not
  // start what the stop then ends.
  SignalReader(Loop& loop, std::function<void(const signalfd_siginfo&)> callback);

 private:
  void Read();

  std::function<void(const signalfd_siginfo&)> callback_;
  UniqueFd fd_;
  std::unique_ptr<Loop::Watch> watch_;
};

}  // namespace supervisor
