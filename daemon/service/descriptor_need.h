#pragma once

#include <cstdint>

#include "daemon/config/config.h"

namespace supervisor {

// The descriptors that the daemon has open for one instance of a service as long as that is up. What is open for a
// moment (the report of an exec, a hook's output, a rotated log that is compressed) comes out of the reserve:
// process/descriptor_budget.h. Pure.
uint64_t DescriptorsFor(const ServiceConfig& config);

// The sum over all instances, and how many they are.
struct DescriptorNeed {
  uint64_t descriptors = 0;
  uint64_t instances = 0;
};
DescriptorNeed NeedOf(const Config& config);

// How many instances like these `descriptors` carry: the average counts.
uint64_t InstancesCarried(const Config& config, uint64_t descriptors);
// How many instances are configured to be up.
uint64_t InstancesEnabled(const Config& config);

}  // namespace supervisor
