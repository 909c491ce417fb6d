#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <mutex>

#include "common/clock.h"
#include "daemon/process/process_tree.h"
#include "daemon/process/usage.h"

namespace supervisor {

// What the process checks of one checker measure with. Owned together with the helper threads that measure.
class ProcessLooks {
 public:
  // For one check of that main process. None while somebody holds the one before: a look that hangs with a process
  // (in a page fault that its file system does not answer) holds up one thread then, however many checks follow.
  // `shortest_rate`: see UsageSampler. Loop thread.
  std::shared_ptr<UsageSampler> SamplerFor(pid_t main, absl::Duration shortest_rate);

  // Helper thread, since it may take long or hang. A tree that is known by nothing is `main` and its descendants.
  Usage Measure(UsageSampler& sampler, const ProcessTreeView& tree, pid_t main);

 private:
  struct Look {
    MonoTime taken = kNoDeadline;  // kNoDeadline: none yet
    EveryProcess everybody;
  };
  Look FreshLook();
  void Keep(const Look& look);

  std::map<pid_t, std::weak_ptr<UsageSampler>> samplers_;  // loop thread
  std::mutex mutex_;                                       // guards what follows
  Look last_;
};

}  // namespace supervisor
