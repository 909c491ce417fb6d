#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/file_trust.h"

namespace supervisor {

// The version of what guardian and daemon, old and new, say to each other: the options below, the descriptors, records.
inline constexpr int kInternalProtocol = 3;

// supervisord's command line.
struct DaemonOptions {
  enum class Command {
    kRun,
    kStop,
    kStatus,
    kCheck,
    kInitDb,
    kShowVersion,
    kShowHelp,
    kGuardian,
    kDaemonProcess,
    kListFailPoints
  };
  Command command = Command::kRun;
  std::string config_file;  // absolute
  bool config_given = false;
  bool background = false;
  bool no_guardian = false;
  FileTrust trust_files = FileTrust::kStrict;
  // Where supervisord was started, for a configuration from standard input: relative paths in it refer to that.
  std::string config_directory;
  // Between our own processes: kGuardian and kDaemonProcess.
  int lock_fd = -1;
  int reaped_read_fd = -1;
  int reaped_write_fd = -1;
  int ready_fd = -1;      // eventfd, to the guardian
  int held_send_fd = -1;  // see daemon/process/held_descriptors.h
  int held_receive_fd = -1;
  int keeper_fd = -1;  // see daemon/guardian/keeper.h
  int keeper_pid = -1;
  int started_fd = -1;  // pipe, to whoever waits for --daemon; "ok" or the error
  std::string socket;   // to the guardian, which tidies up beside it, and to the daemon, whose state lies there
  std::string
      applied_config;  // to --check, instead of the file: the configuration in force, see config/applied_config.h
  int protocol = kInternalProtocol;  // of these options; a program to which it is too new must not take over
  int guardian_pid = 0;
  std::string guardian_note;  // for the daemon's log: how the daemon before it ended, and where its program lay
  long long supervisor_started_unix_ms = 0;  // for programs before this one: their uptime goes by it
};

// InvalidArgument with a message for the user.
absl::StatusOr<DaemonOptions> ParseDaemonOptions(int argc, char** argv);

// The text of --help.
extern const char* const kDaemonHelp;

}  // namespace supervisor
