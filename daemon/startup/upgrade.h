#pragma once

#include <sys/resource.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "daemon/loop/loop.h"
#include "daemon/service/helper_command.h"
#include "daemon/startup/options.h"

namespace supervisor {

// Tries the program that lies in this one's place now: it has to know what we say to each other, and to accept the
// configuration in force. Loop thread; one trial at a time.
class UpgradeTrial {
 public:
  // `program`: the path. `applied_config`: the file with the configuration in force (config/applied_config.h).
  UpgradeTrial(Loop& loop, std::string program, const DaemonOptions& options, std::string applied_config)
      : loop_(loop), program_(std::move(program)), options_(options), applied_config_(std::move(applied_config)) {}

  // OK: it may take over. Else FailedPrecondition with what it said. Aborted where another trial is under way.
  void Run(std::function<void(absl::Status)> done);
  // Whoever waits is told so, later.
  void Cancel();

 private:
  Loop& loop_;
  std::string program_;
  const DaemonOptions& options_;
  std::string applied_config_;
  std::unique_ptr<HelperCommand> trial_;
};

// Without a guardian to start the new program: execs it in place of this one, with the lock and what is held for the
// services. The pid stays, and so do the children. Where no guardian was wanted it is the next daemon; where the
// guardian was killed, a guardian again, which starts that. Everything must be on disk. `limit`: of descriptors, as it
// was given. Returns where nothing could be exec'd: this process is of no use any more then.
void BecomeNewProgram(const DaemonOptions& options, const std::string& socket, const rlimit& limit);

// The path of the running program. After another was put in its place: the same path, which has that one now.
std::string OwnProgram();

}  // namespace supervisor
