#pragma once

#include "daemon/config/config.h"
#include "daemon/process/descriptor_budget.h"

namespace supervisor {

// For a configuration that is in force from now on. Logs how many services the limit of descriptors carries; a warning
// with the remedy where more are enabled.
void ShareOutAmong(const Config& config, DescriptorBudget& budget);

}  // namespace supervisor
