#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/process/spawn.h"

namespace supervisor {

// What the processes of one run (a start of a service, or a hook) are known by where there is no cgroup, when they have
// left their session and lost their parents. Drawn at random for each run. It has two halves:
//
//   secret    32 hex digits in the environment that the run is started with. Nobody can guess it; root and the run's
//   own
//             user can read it. A process may overwrite its environment, or hide it (prctl(2), PR_SET_DUMPABLE).
//   lineage   two hard limits that Linux has not enforced since 2.4: RLIMIT_RSS and RLIMIT_LOCKS (getrlimit(2)). They
//             pass on over fork, exec and setuid. Everybody may read them (/proc/PID/limits), and nobody but root can
//             take on another run's: without CAP_SYS_RESOURCE limits only fall, and of two lineages the one has the
//             lower RLIMIT_RSS and the other the lower RLIMIT_LOCKS.
//
// A value. Any thread.
class RunMark {
 public:
  static constexpr const char* kVariable = "SUPERVISOR_INSTANCE";
  static constexpr size_t kSecretSize = 32;

  RunMark() = default;  // none, which no process has
  // As a record has it. Another text than 32 hex digits, as earlier versions used it, is a mark without lineage.
  explicit RunMark(std::string secret) : secret_(std::move(secret)) {}
  static RunMark Random();

  bool empty() const { return secret_.empty(); }
  const std::string& secret() const { return secret_; }
  // From 1 on; 0: none. Tells nothing that would help to guess the secret.
  uint64_t lineage() const;
  // Puts it on what is to be started: the secret, and the lineage where it is wanted and this process may give one.
  void PutOn(SpawnRequest& request, bool with_lineage) const;
  bool operator==(const RunMark&) const = default;

 private:
  std::string secret_;
};

// Whether this process may give lineages: not where it is itself a service of another supervisor, whose lineage it has,
// and an ordinary user's.
bool GivesLineages();

// 0: it has none.
uint64_t LineageOf(pid_t pid);

// Pure, for LineageOf: of the two hard limits, and of /proc/PID/limits (proc(5)).
uint64_t LineageOfLimits(uint64_t rss, uint64_t locks);
uint64_t ParseLineage(const std::string& limits_file);

}  // namespace supervisor
