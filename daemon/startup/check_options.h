#pragma once

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "daemon/config/config.h"

namespace supervisor {

// What `supervisorctl check` was asked for.
struct CheckOptions {
  HealthCheckConfig check;
  std::string type;               // "http"
  std::string target;             // "http://127.0.0.1:8080/", "127.0.0.1:5432", "4711", "./check.sh": for messages
  pid_t pid = 0;                  // of a process check
  std::string working_directory;  // of a script
  bool json = false;
  bool no_color = false;
  bool help = false;
};

// InvalidArgument with a message for the user. Reads the working directory, nothing else. One thread (getopt).
absl::StatusOr<CheckOptions> ParseCheckOptions(int argc, char** argv);

extern const char* const kCheckHelp;

}  // namespace supervisor
