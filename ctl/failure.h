#pragma once

#include <string>

#include "ctl/exit_code.h"

namespace supervisor {

// Why a command could not do its work: for the user in words, for scripts as an exit code and a stable name.
struct Failure {
  ExitCode exit_code = ExitCode::kFailed;
  std::string code;     // "not_found", "unavailable", ...: the "code" of the JSON error object
  std::string message;  // may have several lines; the first says what is wrong, the others what to do
};

}  // namespace supervisor
