#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/process/spawn.h"

namespace supervisor {

// Runs children on a loop until they have ended.
class ProcessHarness {
 public:
  static SpawnRequest Shell(const std::string& script) {
    SpawnRequest request;
    request.command = "/bin/sh";
    request.args = {"-c", script};
    request.environment = {{"PATH", "/usr/bin:/bin"}};
    return request;
  }

  struct Ended {
    bool started = false;
    std::optional<SpawnFailure> failure;
    std::optional<WaitStatus> status;
  };

  // Calls `on_started` once it was exec'd (or was not).
  Ended Run(const SpawnRequest& request, std::function<void(ChildProcess&)> on_started = nullptr) {
    Ended ended;
    std::unique_ptr<ChildProcess> child;
    absl::StatusOr<std::unique_ptr<ChildProcess>> spawned =
        ChildProcess::Spawn(loop_, request,
                            {.on_started =
                                 [&](std::optional<SpawnFailure> failure) {
                                   ended.started = true;
                                   ended.failure = std::move(failure);
                                   if (on_started && !ended.failure) {
                                     on_started(*child);
                                   }
                                 },
                             .on_exit =
                                 [&](WaitStatus status) {
                                   ended.status = status;
                                   loop_.Stop();
                                 }});
    if (spawned.ok()) {
      child = *std::move(spawned);
      loop_.Run();
    }
    return ended;
  }

  Loop& loop() { return loop_; }

 private:
  Loop loop_;
};

}  // namespace supervisor
