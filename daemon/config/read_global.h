#pragma once

#include <vector>

#include "daemon/config/config.h"
#include "daemon/config/object_reader.h"

namespace supervisor {

// Everything of the main file but the services. What is wrong goes to the reader's errors and keeps its default.

struct ReadGlobalResult {
  GlobalConfig global;
  std::vector<PlacedText> include;  // as in `global`, with places
};
ReadGlobalResult ReadGlobal(ObjectReader reader);

NotificationsConfig ReadNotifications(ObjectReader reader);
MonitoringConfig ReadMonitoring(ObjectReader reader);

}  // namespace supervisor
