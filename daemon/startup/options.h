#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace supervisor {

// supervisord's command line.
struct DaemonOptions {
  enum class Command { kRun, kStop, kStatus, kCheck, kInitDb, kShowVersion, kShowHelp, kGuardian, kDaemonProcess };
  Command command = Command::kRun;
  std::string config_file;  // absolute
  bool config_given = false;
  bool background = false;
  bool no_guardian = false;
  // Between our own processes: kGuardian and kDaemonProcess.
  int lock_fd = -1;
  int reaped_read_fd = -1;
  int reaped_write_fd = -1;
  int ready_fd = -1;    // eventfd, to the guardian
  int started_fd = -1;  // pipe, to whoever waits for --daemon; "ok" or the error
  std::string socket;   // to the guardian, which tidies up beside it
  int guardian_pid = 0;
  long long supervisor_started_unix_ms = 0;
};

// InvalidArgument with a message for the user.
absl::StatusOr<DaemonOptions> ParseDaemonOptions(int argc, char** argv);

// The text of --help.
extern const char* const kDaemonHelp;

}  // namespace supervisor
