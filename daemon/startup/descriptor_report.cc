#include "daemon/startup/descriptor_report.h"

#include <cstdint>
#include <string>

#include "common/diag_log.h"
#include "daemon/service/descriptor_need.h"

namespace supervisor {

void ShareOutAmong(const Config& config, DescriptorBudget& budget) {
  const DescriptorShares& shares = budget.shares();
  if (shares.limit == 0) {
    return;  // the configuration of the start, before anything is shared out
  }
  const DescriptorNeed need = NeedOf(config);
  budget.Expect(need.descriptors, need.instances);
  const uint64_t carried = InstancesCarried(config, shares.for_services);
  const uint64_t enabled = InstancesEnabled(config);
  const std::string limit = std::to_string(shares.limit);
  LogInfo("file descriptors: services that the limit carries",
          {{"limit", limit}, {"carries", std::to_string(carried)}, {"reserve", std::to_string(shares.reserve)}});
  if (enabled > carried) {
    LogWarning(
        "the limit of file descriptors does not carry all enabled services: raise LimitNOFILE= of supervisord's unit, "
        "or "
        "the hard limit (ulimit -Hn) where it is started, and restart it",
        {{"limit", limit}, {"carries", std::to_string(carried)}, {"enabled", std::to_string(enabled)}});
  }
}

}  // namespace supervisor
