#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "common/unique_fd.h"
#include "daemon/guardian/guardian.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/worker.h"
#include "daemon/process/wait_status.h"

namespace supervisor {

// What the guardian tells of processes that it has reaped: records in a pipe which every daemon inherits. They are
// looked at in place (tee(2)) and taken out only when what follows from them is on record, so a daemon that dies in
// between leaves them to the next one. Loop thread.
class ReapedExits {
 public:
  struct Listener {
    std::function<void(pid_t, WaitStatus)> on_exit;  // once for each record
    // The end of that process is still to be told: its record stays in the pipe.
    std::function<bool(pid_t)> is_awaited;
  };

  // `fd`: the pipe's reading end, borrowed; -1: there is no guardian. `files`: its turn comes after the records that
  // were posted to it.
  ReapedExits(Loop& loop, Worker& files, int fd, Listener listener);

  // What has been told of that process and not been taken yet.
  std::optional<WaitStatus> Find(pid_t pid);
  // From now on the listener is told of what is there and of what comes.
  void Watch();

 private:
  void Look();
  void Tell();
  void Settle();
  void Take(size_t count);

  Loop& loop_;
  Worker& files_;
  const int fd_;
  Listener listener_;
  UniqueFd scratch_read_;
  UniqueFd scratch_write_;
  std::vector<ReapedRecord> waiting_;  // what lies in the pipe, oldest first
  size_t told_ = 0;                    // so many of them, to the listener
  std::unique_ptr<Loop::Watch> watch_;
  std::unique_ptr<Loop::Timer> settle_timer_;
};

}  // namespace supervisor
