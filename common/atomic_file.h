#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace supervisor {

// Replaces `path` by a file with exactly this content: written beside it under a name of its own, then renamed over it
// (rename(2) is atomic), so a reader, or a crash or a full disk at any moment, sees the old content or the new and
// never half of one. Symbolic links in the last component are replaced, not followed. Blocks on the disk.
absl::Status WriteFileAtomically(const std::string& path, std::string_view content, mode_t mode);

// Takes away what another process that was killed in the midst of WriteFileAtomically has left in `directory`, of those
// target names (without directory) that `is_ours` accepts; its own are left alone. Blocks on the disk.
void RemoveLeftTemporaries(const std::string& directory, const std::function<bool(const std::string& name)>& is_ours);

// At most `most` bytes; a longer file is an error, and so is what is not a regular file.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path, size_t most);

// mkdir -p. A directory that exists is left as it is.
absl::Status MakeDirectories(const std::string& path, mode_t mode);

}  // namespace supervisor
