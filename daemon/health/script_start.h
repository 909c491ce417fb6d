#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"
#include "daemon/config/config.h"
#include "daemon/health/checker.h"
#include "daemon/health/killer_thread.h"
#include "daemon/health/start_gate.h"
#include "daemon/loop/helper_pool.h"

namespace supervisor {

struct StartedScript {
  ScriptTree tree;
  UniqueFd output;  // the reading end of its stdout and stderr, non-blocking
};

// Starts check scripts on helper threads, since exec waits for the file system that the script lies on: in a session of
// their own, with signals at default and unblocked, nothing inherited but 0 to 2, stdin at /dev/null; as the user whom
// the target names. The environment is PATH, SERVICE_ID, SERVICE_PID and the marker; with ScriptEnvironment::kService
// also all that the target's service has, or, where no service is known, this process.
//
// A start that hangs with its file system keeps its thread: see StillHangs.
//
// No script is ever lost: one whose check was cancelled while it started goes to the killer.
class ScriptStarter : public std::enable_shared_from_this<ScriptStarter> {
 public:
  // `path` is the PATH of scripts, and where commands without a slash are looked up. Gate and killer live until the
  // mailbox is closed.
  ScriptStarter(std::string path, std::shared_ptr<LoopMailbox> mailbox, StartGate& gate, KillerThread& killer);
  ~ScriptStarter();
  ScriptStarter(const ScriptStarter&) = delete;
  ScriptStarter& operator=(const ScriptStarter&) = delete;

  using Done = std::function<void(absl::StatusOr<StartedScript>)>;
  // Loop thread. Calls `done` on a later turn, unless `wanted` has expired by then. `visit` is the caller's at the
  // gate, which it leaves when the script has started.
  void Start(uint64_t visit, HelperPool& pool, const HealthCheckConfig& check, const CheckTarget& target,
             const std::weak_ptr<const void>& wanted, const Done& done);

  // Any thread. Nobody waits for this start any more: where it hangs in exec, what was to become the script is killed.
  void GiveUp(const std::weak_ptr<const void>& wanted);

  // A start for this target hangs though nobody wants it any more, beyond the reach of signals. Who begins no other
  // then has as many threads hang as there are targets, however long the file system does.
  bool StillHangs(const std::string& target) const;

  // Loop thread. Starts nothing any more; waits until what is being started has been handed to the loop, no longer
  // than `longest`, and as long again for what hangs and is killed. What takes longer is killed by the thread that
  // started it.
  void Close(std::chrono::milliseconds longest);

 private:
  struct State;
  absl::StatusOr<StartedScript> StartNow(const HealthCheckConfig& check, const CheckTarget& target);
  std::vector<std::pair<std::string, std::string>> EnvironmentOf(const HealthCheckConfig& check,
                                                                 const CheckTarget& target) const;
  void Hand(uint64_t visit, absl::StatusOr<StartedScript> started, const std::weak_ptr<const void>& wanted,
            const Done& done);

  const std::string path_;
  const std::shared_ptr<LoopMailbox> mailbox_;
  StartGate& gate_;
  KillerThread& killer_;
  const std::unique_ptr<State> state_;
};

}  // namespace supervisor
