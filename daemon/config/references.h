#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "daemon/config/config.h"
#include "daemon/config/config_source.h"
#include "daemon/config/object_reader.h"

namespace supervisor {

// Where a service stands and what it names, kept until all files are read.
struct ServicePlace {
  const ConfigSource* source = nullptr;
  std::string path;  // "services.web"
  size_t offset = 0;
  std::vector<PlacedText> depends_on;
};
using ServicePlaces = std::map<std::string, ServicePlace>;

// depends_on that name no service. `places` has all services, also those with other errors.
void CheckDanglingDependencies(const ServicePlaces& places, ErrorList& errors);

// Services that wait for themselves, alone or around a circle.
void CheckDependencyCycles(const ServicePlaces& places, ErrorList& errors);

// Services whose files would have the same name: <id>.log, <id>.err.log, <id>.pid and the daemon's own.
void CheckFileCollisions(const Config& config, const ServicePlaces& places, ErrorList& errors);

}  // namespace supervisor
