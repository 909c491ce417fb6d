#pragma once

#include <sys/resource.h>

#include <optional>
#include <string>

namespace supervisor {

// What a person who reads an error about a start has most likely meant.

// Of a command that holds blanks, and that there is no file for: it was to be split as a shell does it.
// `arguments belong in "args": "command": "/bin/sleep", "args": ["1000"]`. Empty where it holds none. Pure.
std::string ArgumentsHint(const std::string& command);

// The bound on RLIMIT_NOFILE that `wanted` exceeds, in words; nothing where it can be set. Of this process: the hard
// limit (getrlimit(2)), or for root the system's (fs.nr_open, proc(5)).
std::optional<std::string> OpenFilesProblem(rlim_t wanted);

}  // namespace supervisor
