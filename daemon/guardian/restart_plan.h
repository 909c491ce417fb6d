#pragma once

#include <cstdint>

namespace supervisor {

// What a guardian does when its daemon has ended. Pure: no syscall, no clock.

// What the daemon ends with when it has stopped everything for a reason that is a failure. The guardian then ends with
// the exit code that the daemon has added to the eventfd of readiness, shifted by kExitCodeShift; with 1 where it has
// not.
inline constexpr int kExitOrderlyFailure = 70;
inline constexpr int kExitCodeShift = 32;
// What it ends with to be replaced by another program of the same path, guardian included; its services run.
inline constexpr int kExitForUpgrade = 71;

// How a daemon ended, and what the guardian knows at that moment.
struct DaemonEnd {
  static constexpr int kNotForked = -1;
  int status = 0;               // of wait(2); kNotForked where fork(2) failed
  bool served = false;          // this daemon has answered
  bool any_served = false;      // this one, or one before it
  bool has_children = false;    // services may run: those of an ended daemon are the guardian's children
  bool is_awaited = false;      // a caller (--daemon) waits for the first daemon to serve
  bool stop_requested = false;  // by a signal to the guardian
  int unserved = 0;             // daemons in a row that ended before they served, this one included
  int tries_to_stop = 0;        // daemons that were started since the stop was requested
};

enum class AfterDaemon {
  kEnd,              // the guardian ends too, with `exit_code`
  kReplaceGuardian,  // the guardian execs the program that lies in its place
  kStartAgain,       // after NextRestartDelayMs
  kEndServices,      // no daemon can be started to stop the services: the guardian does it, and exits with 1
};
struct Verdict {
  AfterDaemon next = AfterDaemon::kEnd;
  int exit_code = 0;
  bool operator==(const Verdict&) const = default;
};

// A daemon that ends by an exit code before any has served has said why it cannot start: the guardian passes the code
// on. One that a signal killed, that could not be exec'd, or that followed one that served, is started again.
//
// A stop always comes to an end. Where no daemon has served and nothing runs there is nothing to stop. Otherwise the
// next daemon stops the services in their order; when three have failed to serve the guardian ends the services itself.
Verdict JudgeEnd(const DaemonEnd& end);

// Whether the daemon ended with kExitOrderlyFailure. `status` as in DaemonEnd.
bool IsOrderlyFailure(int status);

// How long to wait before the next start of a daemon that died `lived_ms` after its own. `served`: it had come so far
// as to answer. Its services wait for such a one, so it is back at once or soon; one that cannot even start is tried
// ever more rarely. `last_ms`: the delay before the daemon that died; 0 for the first.
int64_t NextRestartDelayMs(int64_t last_ms, bool served, int64_t lived_ms);

// Whether the next daemon is started from the program that the guardian itself runs, and not from the one that lies in
// its place: every other time, once two daemons in a row of that one have not come to serve. An upgrade that is half
// installed keeps nobody from his services so.
bool StartsFromOwnProgram(int unserved);

}  // namespace supervisor
