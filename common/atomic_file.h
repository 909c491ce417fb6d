#pragma once

#include <sys/types.h>

#include <cstddef>
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

// For what is written often and tells itself whether it is whole, as by a checksum. Content of kPageSize bytes is
// written over a file of that size in one write(2): within one page of the cache, so that a kill at any moment leaves
// the old or the new, and without a new file each time, which some file systems are slow at (ext4 looks past all inodes
// that were freed in the last seconds) and a full disk refuses. Other content, or onto another file: as
// WriteFileAtomically. A crash of the machine may leave anything.
inline constexpr size_t kPageSize = 4096;
absl::Status WritePage(const std::string& path, std::string_view content, mode_t mode);

// Takes away what another process that was killed in the midst of WriteFileAtomically has left in `directory`, of those
// target names (without directory) that `is_ours` accepts; its own are left alone. Blocks on the disk.
void RemoveLeftTemporaries(const std::string& directory, const std::function<bool(const std::string& name)>& is_ours);

// At most `most` bytes; a longer file is an error, and so is what is not a regular file.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path, size_t most);

// The same of an open file; `name` is for the message.
absl::StatusOr<std::string> ReadWholeFile(int fd, const std::string& name, size_t most);
// Reads the same way a file that only this process's user or root can have written; FailedPrecondition for others. A
// symbolic link in the last component is not followed.
absl::StatusOr<std::string> ReadOwnFile(const std::string& path, size_t most);

// mkdir -p. A directory that exists is left as it is.
absl::Status MakeDirectories(const std::string& path, mode_t mode);

}  // namespace supervisor
