#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "daemon/loop/loop.h"
#include "daemon/service/helper_command.h"

namespace supervisor {

// Tries the program that lies in this one's place now: it has to know what we say to each other, and to accept the
// configuration in force. Loop thread; one trial at a time.
class UpgradeTrial {
 public:
  // `program`: the path. `applied_config`: the file with the configuration in force (config/applied_config.h).
  UpgradeTrial(Loop& loop, std::string program, std::string config_file, std::string applied_config)
      : loop_(loop),
        program_(std::move(program)),
        config_file_(std::move(config_file)),
        applied_config_(std::move(applied_config)) {}

  // OK: it may take over. Else FailedPrecondition with what it said. Aborted where another trial is under way.
  void Run(std::function<void(absl::Status)> done);

 private:
  Loop& loop_;
  std::string program_;
  std::string config_file_;
  std::string applied_config_;
  std::unique_ptr<HelperCommand> trial_;
};

// The path of the running program. After another was put in its place: the same path, which has that one now.
std::string OwnProgram();

}  // namespace supervisor
