#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/unique_fd.h"
#include "daemon/loop/loop.h"
#include "daemon/process/own_child.h"

namespace supervisor {

// The variable that tells whose child a process is when nothing else does any more.
inline constexpr std::string_view kScriptMarker = "SUPERVISOR_CHECK_RUN";

// A program that was started as the leader of its own session, and all that it has started.
struct ScriptTree {
  pid_t pid = 0;  // also the session's and the process group's
  UniqueFd pidfd;
  std::unique_ptr<OwnChild> claim;  // on the leader
  uint64_t start_ticks = 0;         // nothing older belongs to it
  std::string marker;               // the value of kScriptMarker in its environment, given to no other
};

// How the leader ended. Not reaped (its pid is not free for another) until its tree is gone.
struct ScriptExit {
  bool exited = false;  // else killed by a signal
  int value = 0;        // exit code or signal
};

// Kills script trees until nothing is left of them, then reaps the leader. A member is who is in the leader's session
// or group, who descends from a member, or who carries the marker: so it finds also what has made a session of its own
// and lost its parent. (What has cleared its environment as well is beyond finding without a cgroup.)
//
// One look at /proc serves every tree that is being killed, so that a thousand timeouts at once cost no more than one.
// Signals go through pidfds after a second look at the start time: a reused pid is not hit. Loop thread.
class TreeKiller {
 public:
  using Gone = std::function<void(bool all_gone)>;

  explicit TreeKiller(Loop& loop);
  ~TreeKiller();  // waits, up to half a second, until all trees are gone
  TreeKiller(const TreeKiller&) = delete;
  TreeKiller& operator=(const TreeKiller&) = delete;

  // Calls `gone` (may be null) on a later turn: with true as soon as nobody is left and the leader is reaped, with
  // false after a second when somebody does not die (uninterruptible sleep, another user's process); it stays at it.
  void Kill(ScriptTree tree, Gone gone);

 private:
  struct Work;
  struct Look;
  void Round();
  void PassOver();
  static void Volley(const Look& look);

  std::vector<std::unique_ptr<Work>> work_;
  absl::Duration pause_;
  MonoTime rest_until_;
  std::unique_ptr<Loop::Timer> timer_;
};

// How the leader ended, without reaping it; false while it runs.
bool PeekExit(int pidfd, ScriptExit& exit);

}  // namespace supervisor
