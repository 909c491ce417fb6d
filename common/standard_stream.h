#pragma once

#include <optional>
#include <string>

namespace supervisor {

// The program's own standard output or error as a log file, as containers have it: /dev/stdout, /dev/stderr, /dev/fd/1,
// /proc/self/fd/1 and the like, or a symbolic link to one of them. Its descriptor; nothing for any other path, also of
// another descriptor, which could be anything of ours. ConfigureDiagLog (common/diag_log.h) writes to the open file
// itself, never rotates it, and writes no line to stderr beside it.
std::optional<int> StandardStream(const std::string& path);

}  // namespace supervisor
