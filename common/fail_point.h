#pragma once

#include <string_view>

namespace supervisor {

// Fail points: named places between a decision and its durable effect where a test can let this process fail, wait or
// die. Compiled in with SUPERVISOR_FAIL_POINTS alone (the sanitizer and debug builds); else nothing is left of them.
//
// A test arms one by making the file $SUPERVISOR_FAIL_POINTS/NAME with what is to happen the next time that a process
// with that variable comes by: "kill", "delay MILLISECONDS" or "error ERRNO_NUMBER". Whoever comes by first takes the
// file away and with it the blow, so the next daemon lives. `supervisord --internal-fail-points` lists the names.

// In the order of a service's life.
#define SUPERVISOR_FAIL_POINT_LIST(X)                                                                     \
  X(kBootServed, "boot.served")         /* the control socket answers, nothing is adopted yet */          \
  X(kBootAdopted, "boot.adopted")       /* all that runs is adopted, nothing of it is on record yet */    \
  X(kNotifyRights, "notify.rights")     /* before a notify socket is told to take no descriptors */       \
  X(kSocketRights, "socket.rights")     /* before the control socket is told so */                        \
  X(kSpawnDecided, "spawn.decided")     /* before the clone */                                            \
  X(kSpawnCloned, "spawn.cloned")       /* the process exists, its record does not */                     \
  X(kSpawnStarted, "spawn.started")     /* execve has succeeded, "started" is not told */                 \
  X(kFileWritten, "file.written")       /* a small file (record, pid file) is written, not yet renamed */ \
  X(kFileRenamed, "file.renamed")       /* it is in its place */                                          \
  X(kExitSeen, "exit.seen")             /* a service's end, neither on record nor reaped */               \
  X(kExitRecorded, "exit.recorded")     /* on record, neither in the database nor reaped */               \
  X(kExitReaped, "exit.reaped")         /* the zombie is gone */                                          \
  X(kReportPeeked, "report.peeked")     /* a report of the guardian's is read, and not taken yet */       \
  X(kReportTaken, "report.taken")       /* it is taken out of the pipe */                                 \
  X(kStopDecided, "stop.decided")       /* before the signal */                                           \
  X(kStopSignalled, "stop.signalled")   /* after it */                                                    \
  X(kTreeKilled, "stop.killed")         /* SIGKILL was sent to what was left */                           \
  X(kHookStarted, "hook.started")       /* a hook runs */                                                 \
  X(kEventsHanded, "events.handed")     /* the store's queue has the events */                            \
  X(kStoreWritten, "store.written")     /* a batch is written and not committed */                        \
  X(kStoreCommitted, "store.committed") /* it is committed, and nobody has been told */                   \
  X(kStoreAsked, "store.asked")         /* a query is about to be read from the file */                   \
  X(kLogRotating, "log.rotating")       /* rotation: before the first rename */                           \
  X(kLogShifted, "log.shifted")         /* the older ones have moved on, the present one has not */       \
  X(kLogRenamed, "log.renamed")         /* the present one has its new name, and no successor */          \
  X(kReloadDecided, "reload.decided")   /* the new configuration is good, nothing is applied */           \
  X(kReloadRenamed, "reload.renamed")   /* instances have other names; files are being renamed */         \
  X(kReloadApplied, "reload.applied")   /* applied, and not kept as the one in force */                   \
  X(kUpgradeTried, "upgrade.tried")     /* the new program is good */                                     \
  X(kUpgradeLeaving, "upgrade.leaving") /* all queues are written, the daemon is about to end */

enum class FailPointId {
#define SUPERVISOR_FAIL_POINT_ID(id, name) id,
  SUPERVISOR_FAIL_POINT_LIST(SUPERVISOR_FAIL_POINT_ID)
#undef SUPERVISOR_FAIL_POINT_ID
};

// One name a line; empty where none are compiled in.
std::string_view FailPointNames();

#ifdef SUPERVISOR_FAIL_POINTS
// The errno with which the step is to fail, 0 for none. Any thread; not between clone and exec.
int FailPoint(FailPointId id);
#else
constexpr int FailPoint(FailPointId) { return 0; }
#endif

}  // namespace supervisor
