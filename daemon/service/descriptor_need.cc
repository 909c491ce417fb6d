#include "daemon/service/descriptor_need.h"

#include <algorithm>

namespace supervisor {

uint64_t DescriptorsFor(const ServiceConfig& config) {
  constexpr uint64_t kPidFd = 1;
  constexpr uint64_t kStream = 4;  // both ends of the FIFO, the log, its index
  constexpr uint64_t kNotifySocket = 1;
  constexpr uint64_t kCheck = 1;
  const bool is_heard = config.readiness.type == ReadinessType::kNotify || config.environment.contains("WATCHDOG_USEC");
  return kPidFd + kStream * (config.logs.stderr_mode == StderrMode::kSeparate ? 2 : 1) +
         (is_heard ? kNotifySocket : 0) + (config.health_check.type != HealthCheckType::kNone ? kCheck : 0);
}

uint64_t InstancesEnabled(const Config& config) {
  uint64_t count = 0;
  for (const auto& [id, service] : config.services) {
    count += service.enabled ? static_cast<uint64_t>(service.instances) : 0;
  }
  return count;
}

DescriptorNeed NeedOf(const Config& config) {
  DescriptorNeed need;
  for (const auto& [id, service] : config.services) {
    const auto count = static_cast<uint64_t>(service.instances);
    need.instances += count;
    need.descriptors += count * DescriptorsFor(service);
  }
  return need;
}

uint64_t InstancesCarried(const Config& config, uint64_t descriptors) {
  const DescriptorNeed need = NeedOf(config);
  return need.descriptors == 0 ? descriptors / DescriptorsFor({}) : descriptors * need.instances / need.descriptors;
}

}  // namespace supervisor
