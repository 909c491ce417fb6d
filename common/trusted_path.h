#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "common/file_trust.h"
#include "common/unique_fd.h"

namespace supervisor {

// Opens files and directories that nobody but trusted users can have put in their place, or can exchange: what decides
// which programs run (the configuration, environment files, hooks), and the places where the daemon keeps its own
// files.
//
// The path is walked from "/" with descriptors, one component at a time, and symbolic links are followed here, not by
// the kernel (path_resolution(7)). Each component is judged by its descriptor:
//
//   directory      belongs to a trusted user, and nobody else may write in it. With the sticky bit (as /tmp) others may
//                  write: they can add names, and cannot rename or remove the names of other users (unlink(2), EPERM).
//   symbolic link  belongs to a trusted user: its owner decides where it leads.
//   file           belongs to a trusted user, nobody else may write it. Directly in a sticky directory it has one name
//                  only: anybody could have made a further link to a file of root there (link(2)).
//
// A component on a read-only mount (statvfs(3), ST_RDONLY) can't be exchanged, so its owner and mode don't matter.
// What was judged is what is opened: the last component is opened relative to its directory's descriptor, and is the
// same inode. Blocks on the disk, so not for the loop thread. Any thread.

// Who may own and write, and what the message says.
struct TrustRule {
  FileTrust level = FileTrust::kStrict;
  std::vector<uid_t> uids = {};  // trusted beside root
  std::vector<gid_t> gids = {};  // trusted to write, beside root's group: groups that have only trusted users
  std::string harm = {};         // what others could do: "run anything as root"
  std::string advice = {};       // replaces "run: chown ...; or start supervisord with --trust-files any"
};

// Trusts root and the user of this process; of the groups root's own, or for another user the private group of the same
// name that has no other member. Asks the user database (getpwuid_r(3)), unless this process is root's.
TrustRule OwnTrust(FileTrust level);
// Trusts another user too, with the private group of that one.
void AddTrusted(uid_t uid, TrustRule& rule);

// Why a path can't be opened. `what` is a predicate for a sentence that begins with the path: "belongs to uid 1000,
// ...".
struct PathProblem {
  enum class Kind {
    kErrno,       // `error` is the errno of the kernel
    kDirectory,   // a file was asked for
    kNotRegular,  // a device, FIFO or socket
    kDistrusted,
  };
  Kind kind = Kind::kErrno;
  int error = 0;
  std::string what = {};
};

// Opens a regular file with these flags of open(2); O_CLOEXEC, O_NOCTTY and O_NONBLOCK are added. A path that is not
// absolute starts at the working directory.
std::variant<UniqueFd, PathProblem> WalkToFile(const std::string& path, int flags, const TrustRule& rule);

// The same as a Status: NotFound and others by errno, FailedPrecondition where the path is not trusted. The message
// begins with the path.
absl::StatusOr<UniqueFd> OpenTrustedFile(const std::string& path, int flags, const TrustRule& rule);

// Opens a directory (O_PATH: for openat(2) and its like; fchmod(2) and reading need it opened again as "."). A sticky
// directory in which others may write is accepted: files in it need a look at their owner.
absl::StatusOr<UniqueFd> OpenTrustedDirectory(const std::string& path, const TrustRule& rule);

// The same after making it, and what is missing above it, with this mode, as far as the umask allows.
absl::StatusOr<UniqueFd> MakeTrustedDirectory(const std::string& path, mode_t mode, const TrustRule& rule);

// Judges a regular file that is open already, `path` being the name for messages: its owner and mode alone. For a file
// that the caller of this program opened, and so chose.
std::optional<PathProblem> JudgeOpenFile(int fd, const std::string& path, const TrustRule& rule);

// One component of a path as it was found.
struct PathNode {
  struct stat info = {};
  bool is_read_only = false;   // its mount is
  bool has_acl = false;        // acl(5): then the group's permissions are those of the list's mask
  bool is_in_sticky = false;   // others may add names to the directory in which it lies
  bool is_user_mount = false;  // a FUSE file system is mounted on it: an ordinary user may do so (fusermount3(1))
};

// Decides about one component, `path`. Returns nothing where it is trusted; otherwise why not, as a predicate for a
// sentence about `asked`, the path that leads through it: with the reason, what others could do, and what to do. Pure.
std::optional<std::string> Distrust(const std::string& asked, const std::string& path, const PathNode& node,
                                    const TrustRule& rule);

}  // namespace supervisor
