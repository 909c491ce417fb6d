#pragma once

#include "daemon/config/config.h"
#include "daemon/config/object_reader.h"

namespace supervisor {

// What a failed check, or an exceeded limit, leads to.
inline constexpr ObjectReader::Choice<OnFailure> kOnFailureChoices[] = {{"restart", OnFailure::kRestart},
                                                                        {"alert", OnFailure::kAlert}};

// A service's "health_check". One that is absent gives kNone.
HealthCheckConfig ReadHealthCheck(ObjectReader reader, const GlobalConfig& global);

}  // namespace supervisor
