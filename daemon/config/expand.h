#pragma once

#include <string>
#include <vector>

#include "daemon/config/config.h"

namespace supervisor {

// The ids of a service's instances: {"web"}, or {"worker:0", "worker:1"} where instances is more than 1.
std::vector<std::string> InstanceIds(const ServiceConfig& service);

// The id of the service whose instance this is: "worker" of "worker:0", "web" of "web".
std::string ServiceOfInstance(const std::string& instance);

// Those of all services that are enabled.
std::vector<std::string> EnabledInstanceIds(const Config& config);

// The service's configuration with ${INSTANCE} replaced by `instance` in every string (and the $${ escapes that
// LoadConfig kept for this step undone).
ServiceConfig ForInstance(const ServiceConfig& service, int instance);

}  // namespace supervisor
