#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace supervisor {

// Which file it is, whatever its name: rotation renames. The birth time tells a file from a later one that got the
// same inode number (0 where the file system keeps none).
struct FileId {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t born_ns = 0;
  bool operator==(const FileId&) const = default;
};

struct FileFacts {
  FileId id;
  uint64_t size = 0;
  uint64_t links = 0;
  int64_t modified_ms = 0;  // since the epoch
  bool regular = false;
};

// Of an open file. Nothing, with errno set, on failure.
std::optional<FileFacts> FactsOf(int fd);
// Of a name under `dir_fd` (or AT_FDCWD); a symbolic link is not followed.
std::optional<FileFacts> FactsAt(int dir_fd, const std::string& name);

}  // namespace supervisor
