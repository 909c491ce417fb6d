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

// Who may read and write a file: what chown(1), chgrp(1) and chmod(1) set.
struct DbFileAccess {
  uid_t owner = 0;
  gid_t group = 0;
  mode_t mode = 0;  // permission bits
  bool operator==(const DbFileAccess&) const = default;
};

// The file's path with all symbolic links of its directories followed; directories that are missing are made (0750).
// A link is followed only where it belongs to root or to this user: others may not lead us elsewhere.
absl::StatusOr<std::string> ResolveDatabasePath(const std::string& path);

// Makes an empty file where there is none, and says what is wrong where there is something else than a file (a
// symbolic link, a directory). Takes a path from ResolveDatabasePath. A new file has mode 0640, or the access of the
// one that was there before, where that is known and may be given.
absl::StatusOr<FileIdentity> CreateDatabaseFile(const std::string& path,
                                                const std::optional<DbFileAccess>& access = std::nullopt);

// Nothing: there is no regular file, or it can't be looked at.
std::optional<DbFileAccess> AccessOf(const std::string& path);

// Gives "<path>-wal" and "<path>-shm", where they exist, the access of the database: SQLite does so only when it makes
// them, so another user's permission to read would end there. Best effort. Locks on the files stay.
void MatchSideFiles(const std::string& path, const DbFileAccess& access);

// Nothing: there is none, or it can't be looked at.
std::optional<FileIdentity> IdentifyFile(const std::string& path);

// Renames the database with its -wal and -shm to "<path>.malformed-YYYYmmddHHMMSS..." and returns that name. REQUIRES:
// no connection of ours is open.
absl::StatusOr<std::string> SetDatabaseAside(const std::string& path, absl::Time now);

}  // namespace supervisor
