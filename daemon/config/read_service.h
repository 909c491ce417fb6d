#pragma once

#include <vector>

#include "daemon/config/config.h"
#include "daemon/config/object_reader.h"

namespace supervisor {

// One member of a "services" object.
struct ReadServiceResult {
  ServiceConfig service;
  std::vector<PlacedText> depends_on;  // as in the service, with places: whether they exist is known only at the end
};

// `global` gives the defaults of interval, delay and attempts. What is wrong goes to the context's errors and keeps its
// default in the result.
ReadServiceResult ReadService(const ReadContext& context, const JsonMember& member, const GlobalConfig& global);

}  // namespace supervisor
