#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/process/boot_identity.h"
#include "daemon/process/wait_status.h"
#include "daemon/service/recorded_health.h"
#include "daemon/store/store.h"

namespace supervisor {

// What the next daemon must know of an instance when this one has died: written to <state>/<instance>.record before
// anything can depend on it. A text of "key value" lines that begins with its version and ends with its checksum; a
// reader skips keys that it does not know and takes a missing one as its default, so older and newer daemons read each
// other's.
struct InstanceRecord {
  BootIdentity boot;
  bool stopped_by_request = false;  // somebody stopped it: it stays stopped
  pid_t pid = 0;                    // 0: no process
  uint64_t start_ticks = 0;         // of that process
  bool ready = false;
  int attempts = 0;
  int restart_count = 0;
  int64_t started_unix_ms = 0;
  int64_t started_boot_ms = 0;  // since boot, which nobody sets: how long it has been up goes by this
  int64_t watchdog_us = 0;      // the sd_notify watchdog in force
  bool desired_up = false;      // it was wanted, whatever it was doing
  bool restarting = false;      // it was being stopped, to be started again
  bool exited = false;          // at rest: it has ended as it should
  bool failed = false;          // at rest: the policy has given up
  // What the kernel had counted in its cgroup, and is told: see LimitKeeper::Counters.
  uint64_t oom_events = 0;
  uint64_t oom_kills = 0;
  uint64_t refused_forks = 0;
  uint64_t spawn = 0;  // how often it was started, failures included: the number of the last one that is on record
  int64_t last_restart_unix_ms = 0;
  // How its last process ended, and whether no event tells that yet (its tree or a hook was still being waited for).
  std::optional<WaitStatus> last_exit;
  bool exit_untold = false;
  pid_t ended_pid = 0;           // whose end no event tells yet
  std::string failure;           // of its last run, see MachineState
  std::string reason;            // why it is at rest
  int64_t backoff_until_ms = 0;  // since boot: then the policy starts it again. 0: it does not wait
  // Ends of its processes that the database may not have yet. A zombie is reaped when it stands here, so that whoever
  // dies in between, each end is told once.
  std::vector<EventRow> untold;
  // What the processes of its last run are known by (RunMark::secret), and as whom that was started.
  std::string mark;
  std::optional<uid_t> owner;
  RecordedHealth health;  // of the process that runs
  // Of the environment file that its last process was started with, see environment_digest.h. 0: none, or not known.
  uint64_t environment_file_digest = 0;
  // The name under which its last process was started, where that is not its id: see Instance::Rename.
  std::string process_name;
  bool operator==(const InstanceRecord&) const = default;
};

// When its process began, since boot. One that was written by a program before says only when that of `pid` did.
absl::Duration StartSinceBoot(const InstanceRecord& record);

std::string FormatRecord(const InstanceRecord& record);
// DataLoss for what is torn or is no record.
absl::StatusOr<InstanceRecord> ParseRecord(std::string_view text);

}  // namespace supervisor
