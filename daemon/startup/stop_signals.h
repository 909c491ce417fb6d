#pragma once

#include <sys/signalfd.h>
#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>

#include "common/clock.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// The signals that ask the daemon to stop everything. The first begins the stop, which gives each service its graceful
// time; a second one hurries it: what is left is killed. One wish can arrive as several signals: a terminal's ^C
// reaches guardian and daemon and is forwarded by the guardian, and so does `killall supervisord`.

enum class SignalSource {
  kGuardian,  // forwarded, one for each that the guardian has had
  kKernel,    // the terminal's, to the whole process group
  kOther,     // sent to this process by somebody
};
SignalSource SourceOf(const signalfd_siginfo& info, pid_t guardian);

// Counts the requests. Pure.
class StopRequests {
 public:
  // Returns how often a stop has been asked for, by the source that has asked most often. Where there is a guardian,
  // the terminal's signals come by way of it alone.
  int Take(SignalSource source, bool has_guardian);

 private:
  std::map<SignalSource, int> counts_;
};

// Loop thread.
class StopSignals {
 public:
  struct Actions {
    std::function<void(int signal)> begin;
    std::function<void()> hurry;
  };
  StopSignals(Loop& loop, Actions actions);

  void Take(const signalfd_siginfo& info, pid_t guardian);

 private:
  Actions actions_;
  StopRequests requests_;
  MonoTime begun_;
  std::unique_ptr<Loop::Timer> hurry_timer_;
};

}  // namespace supervisor
