#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/file_trust.h"
#include "common/paths.h"
#include "common/unique_fd.h"

namespace supervisor {

// One daemon a socket: a flock(2) on a file beside it, which guardian and daemon hold together. The kernel lets go of
// it when the last of them is gone, however that came about; so a file that was left behind is no obstacle.

// AlreadyExists names the pid that holds it. FailedPrecondition where its directory or the file itself is another
// user's, see private_place.h; `trust` is for the directories above.
absl::StatusOr<UniqueFd> AcquireLock(const RuntimePaths& paths, FileTrust trust);

// One look, which waits for nobody: AlreadyExists also while a holder that was killed is still being taken down.
absl::StatusOr<UniqueFd> TryLock(const RuntimePaths& paths, FileTrust trust);

// Whether the path still names the file that is open.
bool IsNamed(int fd, const std::string& path);

// The pid to signal of the daemon that runs on this socket; nothing where none runs. A pid file is believed only where
// its pid is a supervisord of the lock's owner: FailedPrecondition otherwise. Whoever may not open the lock
// learns it from the pid file; PermissionDenied where that can't be read either.
absl::StatusOr<std::optional<pid_t>> RunningDaemon(const RuntimePaths& paths);

}  // namespace supervisor
