#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace supervisor {

// The database as a file: where it is, whether it is still the same one, and how a malformed one is kept. None of these
// opens an existing database: closing a descriptor of it would drop SQLite's locks (fcntl(2), "lost" locks).

// Which file it is, as long as it is there.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
};

// The file's path with all symbolic links of its directories followed; directories that are missing are made (0750).
// A link is followed only where it belongs to root or to this user: others may not lead us elsewhere.
absl::StatusOr<std::string> ResolveDatabasePath(const std::string& path);

// Makes an empty file (0640) where there is none, and says what is wrong where there is something else than a file (a
// symbolic link, a directory). Takes a path from ResolveDatabasePath.
absl::StatusOr<FileIdentity> CreateDatabaseFile(const std::string& path);

// Nothing: there is none, or it can't be looked at.
std::optional<FileIdentity> IdentifyFile(const std::string& path);

// Renames the database with its -wal and -shm to "<path>.malformed-YYYYmmddHHMMSS..." and returns that name. REQUIRES:
// no connection of ours is open.
absl::StatusOr<std::string> SetDatabaseAside(const std::string& path, absl::Time now);

}  // namespace supervisor
