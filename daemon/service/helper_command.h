#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "daemon/loop/loop.h"
#include "daemon/process/process_tree.h"
#include "daemon/process/spawn.h"

namespace supervisor {

// Runs a command of a service's configuration to its end: a hook, or the graceful_shutdown command. The end of what it
// writes is kept for the message; its whole tree is killed at the timeout. What cannot be killed (another user's
// process, one that sleeps uninterruptibly) is left behind after some seconds, and the message says so. Loop thread.
class HelperCommand {
 public:
  struct Result {
    bool success = false;
    std::string message;  // "exited with code 1: no such table", "timed out after 30 s"
  };

  // `request` is what to run, but for its descriptors. `cgroup` may be null. `done` is called once, when nothing of it
  // is left that can be killed, from the loop and never from within the constructor; it may destroy this.
  HelperCommand(Loop& loop, SpawnRequest request, std::unique_ptr<Cgroup> cgroup, RunMark mark, absl::Duration timeout,
                std::function<void(Result)> done);
  ~HelperCommand();  // kills what is left, without waiting
  HelperCommand(const HelperCommand&) = delete;
  HelperCommand& operator=(const HelperCommand&) = delete;

  void Cancel();
  // Something to be kept as long as this lives: its entry among the births.
  void Hold(std::shared_ptr<void> held) { held_ = std::move(held); }

 private:
  void Start(SpawnRequest request, RunMark mark);
  void ReadOutput();
  void OnExit(WaitStatus status);
  void KillRest();
  void LeaveBehind(const std::vector<SignalRefusal>& refusals);
  void Finish();
  // A main process that could not be killed, until it goes; it then belongs to its own callbacks.
  struct LeftBehind {
    std::unique_ptr<ChildProcess> child;
  };

  std::shared_ptr<void> held_;
  Loop& loop_;
  ProcessTree tree_;
  absl::Duration timeout_;
  std::function<void(Result)> done_;
  Result result_;
  bool decided_ = false;  // result_ holds the reason already: timed out, cancelled
  std::string output_;
  UniqueFd output_fd_;
  std::unique_ptr<Loop::Watch> output_watch_;
  std::unique_ptr<Loop::Timer> timer_;
  std::unique_ptr<Loop::Timer> sweep_timer_;
  std::unique_ptr<ChildProcess> child_;
  std::shared_ptr<LeftBehind> left_ = std::make_shared<LeftBehind>();
  std::optional<MonoTime> kill_began_;
};

}  // namespace supervisor
