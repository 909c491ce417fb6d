#pragma once

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "common/file_trust.h"
#include "daemon/config/config.h"

namespace supervisor {

// Directories and files that decide what this daemon does next, and so have to be its own: the runtime directory with
// the socket, lock and records, and the directory of pid files. Each is made, or taken where it is safe to; else the
// status says whose it is, its mode and what to do. Blocks on the disk; at the start, and when such a directory was
// removed.

// The directory of the socket, 0755. It belongs to root or to this process's user, and nobody else may write in it,
// unless it is sticky (as /tmp). With FileTrust::kAny the directories above it are not looked at; it is all the same.
absl::Status MakeRuntimeDirectory(const std::string& path, FileTrust trust);

// A directory below that one that is this process's alone. One that others may write, or might have written until now,
// is refused: a next daemon would believe what they put there.
absl::Status MakePrivateDirectory(const std::string& path, mode_t mode);

// FailedPrecondition unless the open file belongs to root or this process's user. `path` is for the message.
absl::Status CheckOwner(int fd, const std::string& path);

// global.pid_directory. It may also belong to the user as whom all services run.
absl::Status MakePidDirectory(const Config& config, FileTrust trust);

}  // namespace supervisor
