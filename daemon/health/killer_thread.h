#pragma once

#include <memory>
#include <optional>
#include <thread>

#include "daemon/health/tree_killer.h"
#include "daemon/loop/helper_pool.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// A TreeKiller on a thread of its own, which begins with the first tree: a look at all of /proc takes long on a crowded
// machine, and the checks on the checker's loop must not wait for it. Loop thread of the owner.
class KillerThread {
 public:
  // `loop` is the owner's, and `mailbox` its address.
  KillerThread(Loop& loop, std::shared_ptr<LoopMailbox> mailbox);
  ~KillerThread();  // as TreeKiller's: waits, up to half a second, until all trees are gone
  KillerThread(const KillerThread&) = delete;
  KillerThread& operator=(const KillerThread&) = delete;

  // As TreeKiller::Kill; `gone` is called on the owner's loop, unless its mailbox is closed by then.
  void Kill(ScriptTree tree, const TreeKiller::Gone& gone);

 private:
  bool StartThread();

  Loop& owner_loop_;
  const std::shared_ptr<LoopMailbox> mailbox_;
  std::optional<TreeKiller> inline_;  // on the owner's loop, where the machine refuses a thread
  std::unique_ptr<Loop> loop_;        // of the thread, while it runs
  std::unique_ptr<TreeKiller> killer_;
  std::thread thread_;
};

}  // namespace supervisor
