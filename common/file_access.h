#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace supervisor {

// Owner, group, mode and access control list of a file: what a rotated log's successor takes over, so that a log
// shipper keeps its access.
struct FileAccess {
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t mode = 0;  // permission bits alone, at most 0777
  std::string acl;  // the raw value of the extended attribute of acl(5); empty: none
  bool operator==(const FileAccess&) const = default;
};

// Of an open file. Nothing, with errno set, on failure. REQUIRES: no O_PATH descriptor.
std::optional<FileAccess> AccessOf(int fd);

// Gives the open file this access, as far as it has another. Returns 0, or the errno of the first thing that failed;
// the rest is set all the same: an ordinary user may pass on a group of his, but no owner.
int GiveAccess(int fd, const FileAccess& access);

}  // namespace supervisor
