#pragma once

#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "ctl/exit_code.h"
#include "ctl/invocation.h"

namespace supervisor {

// The command line asks for nothing but a text: help, the version, or what is wrong with it.
struct EarlyExit {
  ExitCode exit_code = ExitCode::kDone;
  std::string text;
  bool to_stderr = false;
  bool json = false;  // --json was given: what is wrong is to be an object on stdout too
};

// Reads the arguments (without the program's name). `now` is what "--since 10m" counts from. Global options may stand
// before and after the command. Reads $SUPERVISOR_SOCKET and, for the default path, what GetDefaultPaths() reads.
std::variant<Invocation, EarlyExit> ParseCommandLine(const std::vector<std::string>& arguments, absl::Time now);

// Every command's name in the order in which help lists them: for tests and completions.
std::vector<std::string> CommandNames();

}  // namespace supervisor
