#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace supervisor {

// Opens a directory (O_PATH) by a walk from its first component that nobody but root and this process's user can
// divert: each component is opened below the one before it, and a symbolic link is followed only if one of those two
// made it. Unlike trusted_path.h it lets others write in what it passes through: a log is no program, and the places
// that administrators choose for logs are often a group's. All later work goes by the descriptor, so a directory that
// is exchanged afterwards is of no consequence. NotFound where there is none; FailedPrecondition names the link and
// what to do. With kMake what is missing is made, with mode 0755.
enum class IfMissing { kFail, kMake };
absl::StatusOr<UniqueFd> OpenDirectoryCarefully(const std::string& path, IfMissing if_missing = IfMissing::kFail);

// As root: the directory's owner could exchange, read and remove what root keeps in it. Fails unless that is root, this
// process's user or `service_uid`, the user of the service whose files they are, who gains nothing by it. For other
// users than root never: they have no more to lose than any program of theirs. `what` is "log directory", say.
absl::Status CheckDirectoryOwner(int directory_fd, const std::string& what, const std::string& path,
                                 std::optional<uid_t> service_uid);

}  // namespace supervisor
