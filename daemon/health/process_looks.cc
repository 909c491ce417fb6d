#include "daemon/health/process_looks.h"

#include <vector>

#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

// One look at /proc serves all that are checked within this time: with hundreds of services it is what costs.
constexpr absl::Duration kFresh = absl::Milliseconds(250);

}  // namespace

std::shared_ptr<UsageSampler> ProcessLooks::SamplerFor(pid_t main, absl::Duration shortest_rate) {
  std::erase_if(samplers_, [](const auto& entry) { return entry.second.expired(); });
  if (samplers_.contains(main)) {
    return nullptr;
  }
  auto sampler = std::make_shared<UsageSampler>(shortest_rate);
  samplers_[main] = sampler;
  return sampler;
}

Usage ProcessLooks::Measure(UsageSampler& sampler, const ProcessTreeView& tree, pid_t main) {
  if (tree.empty()) {
    std::vector<pid_t> pids;
    for (const ProcStat& process : ReadProcessTree(main)) {
      pids.push_back(process.pid);
    }
    return sampler.SampleProcesses(pids, MonotonicNow());
  }
  Look look;
  if (tree.cgroup.empty()) {
    look = FreshLook();
  }
  const Usage usage = sampler.Sample(tree, look.everybody, MonotonicNow());
  Keep(look);
  return usage;
}

ProcessLooks::Look ProcessLooks::FreshLook() {
  const std::lock_guard lock(mutex_);
  if (const MonoTime now = MonotonicNow(); last_.taken == kNoDeadline || now - last_.taken > kFresh) {
    last_ = {.taken = now, .everybody = {}};
    last_.everybody.all();
  }
  return last_;
}

// For the next within that time, who then need not read the same environments again.
void ProcessLooks::Keep(const Look& look) {
  const std::lock_guard lock(mutex_);
  if (look.taken == last_.taken) {
    last_ = look;
  }
}

}  // namespace supervisor
