#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/unique_fd.h"
#include "daemon/loop/loop.h"
#include "daemon/process/wait_status.h"

namespace supervisor {

// What becomes known of a child before this process can look at it: written by the kernel and by the child itself, so
// where it lies in shared memory it is there for the next daemon too. See birth_journal.h.
struct BirthNote {
  int32_t pid;          // 0: not cloned
  int32_t failed_step;  // 0: none; else SpawnFailure::Step + 1: it has ended without execve(2)
  int32_t error;        // errno of that step
};

// What to run and as whom, with all looked up and allocated: between clone and exec nothing more can be.
struct SpawnRequest {
  std::string command;            // with a slash a path, else looked up in `environment`'s PATH
  std::vector<std::string> args;  // without argv[0]
  std::vector<std::pair<std::string, std::string>> environment;  // all of it; nothing is inherited
  std::string working_directory;                                 // empty: "/"
  struct Credentials {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups;  // supplementary
    std::string user;           // for USER and LOGNAME; empty where no user was given
    std::string home;
    std::string shell;
  };
  std::optional<Credentials> credentials;  // none: the daemon's own
  std::optional<mode_t> umask = 022;       // none: the daemon's own
  bool no_new_privileges = false;
  struct Limit {
    int resource;  // RLIMIT_*
    rlimit value;
  };
  std::vector<Limit> limits;
  int nice = 0;
  std::optional<int> oom_score_adj;
  // Borrowed descriptors for 0, 1 and 2; the caller closes its own. -1: /dev/null.
  int stdin_fd = -1;
  int stdout_fd = -1;
  int stderr_fd = -1;
  BirthNote* birth = nullptr;   // to be written to; stays valid until the child has exec'd or is gone
  std::string cgroup;           // directory of a cgroup v2 to be in; empty: stay
  bool born_in_cgroup = false;  // rather than moved there: cheaper, where Cgroup::TakesBirths
};

// Where between clone and exec a start failed, and the kernel's reason.
struct SpawnFailure {
  enum class Step {
    kClone,
    kSession,
    kCgroup,
    kOomScore,
    kLimits,
    kNice,
    kDescriptors,
    kGroups,
    kGroup,
    kUser,
    kNoNewPrivileges,
    kWorkingDirectory,
    kExec
  };
  Step step = Step::kClone;
  int error = 0;     // errno
  std::string what;  // "working_directory /srv/app", "command /usr/bin/foo", "user www-data"
  // "working_directory /srv/app: No such file or directory (ENOENT)"
  std::string ToString() const;
};

// A child process of this one. Signals go through its pidfd, so a reused pid is never hit. Loop thread.
class ChildProcess {
 public:
  // Told once each, on the loop thread, in this order where both come:
  //   on_started  execve(2) has succeeded, or did not (the failure)
  //   on_exit     the process is gone and reaped; after a failed start too
  struct Observer {
    std::function<void(std::optional<SpawnFailure>)> on_started;
    std::function<void(WaitStatus)> on_exit;
  };

  // Takes the few low descriptors that every start goes through; to be called before many are open. Spawn does it where
  // nobody has, and is slower then.
  static absl::Status Prepare();

  // Clones with CLONE_VM and a stack of its own, so that neither the size of this process nor a slow exec (a network
  // file system) holds up the loop. Fails only where clone itself does.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Spawn(Loop& loop, SpawnRequest request, Observer observer);

  // Takes over a process that an earlier daemon started. `start_ticks` (field 22 of /proc/PID/stat) and the boot id
  // must match, else NotFound: the pid was reused or the process is gone. Its parent may be the guardian, which then
  // reports the exit: see ReportExit.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Adopt(Loop& loop, pid_t pid, uint64_t start_ticks,
                                                             Observer observer);

  virtual ~ChildProcess() = default;

  virtual pid_t pid() const = 0;
  // Field 22 of /proc/PID/stat: with the pid it names the process for good. Zero where it was gone at once.
  virtual uint64_t start_ticks() const = 0;
  // NotFound where the process is gone.
  virtual absl::Status Signal(int signal) = 0;
  // For an adopted one: the wait status that the guardian has reaped. Ignored while the process lives: it is about an
  // earlier one of that pid then.
  virtual void ReportExit(WaitStatus status) = 0;
  // After on_exit: what ends the zombie, to be called once, on any thread, when its exit is on record. Until then its
  // wait status is the kernel's to keep, and the guardian's to inherit. Whoever does not take it has the process reaped
  // when this is destroyed.
  virtual std::function<void()> TakeReaping() = 0;
};

// Looks up a user and group in the system's databases (NSS may block: not on the loop thread when it can be helped).
// NotFound names the user or group. Either may be empty; a number is taken as an id.
absl::StatusOr<SpawnRequest::Credentials> LookUpCredentials(const std::string& user, const std::string& group);

}  // namespace supervisor
