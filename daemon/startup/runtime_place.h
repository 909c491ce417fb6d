#pragma once

#include "absl/status/status.h"
#include "common/file_trust.h"
#include "common/paths.h"
#include "daemon/process/held_descriptors.h"

namespace supervisor {

// Where a daemon lives: the directory of its socket, and what lies beside it. Whoever tidies /run or /tmp takes it away
// under a daemon that runs; then it is made again. Loop thread.
//
// A lock file that has lost its name keeps nobody off, so the name is locked anew. The guardian has the former one open
// and can be given no other: the new lock lies among the held descriptors, and so is there as long as guardian or
// daemon live; a next daemon finds it there.
class RuntimePlace {
 public:
  // `lock_fd`: the supervisor's lock, ours to keep on the file that has its name; borrowed, -1 where there is none.
  RuntimePlace(const RuntimePaths& paths, int lock_fd, FileTrust trust)
      : paths_(paths), lock_fd_(lock_fd), trust_(trust) {}

  // The directories alone. With those that exist, only what is wrong with their owner or mode is told.
  absl::Status MakeDirectories() const;
  // Whether all that others find us by is there: lock, pid file, directories. The socket is not looked at.
  bool IsWhole() const;
  // Makes again what is not. AlreadyExists where another supervisor has the lock by now: then nothing was touched.
  absl::Status Restore(pid_t pid_to_signal, HeldDescriptors& held) const;

 private:
  absl::Status RestoreLock(HeldDescriptors& held) const;

  const RuntimePaths& paths_;
  const int lock_fd_;
  const FileTrust trust_;  // of the directories above
};

}  // namespace supervisor
