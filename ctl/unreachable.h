#pragma once

#include <string>

#include "ctl/failure.h"

namespace supervisor {

// What the pid file beside a socket says about the daemon that should listen there.
struct DaemonProcess {
  enum class State {
    kNoPidFile,
    kUnreadable,    // the pid file is there but cannot be read, or holds no pid
    kDead,          // left over: no such process
    kSomebodyElse,  // the pid was reused by another program
    kAlive,
  };
  State state = State::kNoPidFile;
  int pid = 0;
  std::string program;  // kSomebodyElse: what runs under that pid
};
DaemonProcess FindDaemon(const std::string& socket);

// Whether /proc calls the process supervisord.
bool IsSupervisord(int pid);

// Why connect(2) failed with `error`, whether a daemon runs, and what to do: kUnreachable, or kNotPermitted for EACCES
// and EPERM. `socket_is_default`: nobody named another one.
Failure DescribeUnreachable(const std::string& socket, bool socket_is_default, int error);

}  // namespace supervisor
