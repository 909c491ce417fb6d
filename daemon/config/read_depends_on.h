#pragma once

#include <set>
#include <string>
#include <vector>

#include "daemon/config/object_reader.h"

namespace supervisor {

// A service's "depends_on": ids of services, or {"service": ID, "condition": "ready|completed"}.
struct DependsOn {
  std::vector<PlacedText> services;  // with places: whether they exist is known only when all files are read
  std::set<std::string> completed;   // those of them whose condition is "completed"
};

// What is wrong goes to the reader's errors and is left out of the result.
DependsOn ReadDependsOn(ObjectReader& service);

}  // namespace supervisor
