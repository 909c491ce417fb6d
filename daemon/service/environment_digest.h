#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "daemon/config/config.h"
#include "daemon/service/environment.h"

namespace supervisor {

// Tells whether an environment file gives a service other variables than those that its process was started with. Of
// what the file means, not of its bytes: a comment changes nothing in a process. Never zero. Pure.
uint64_t EnvironmentDigest(const Environment& variables);

// By instance id: the digest of its environment file as it is now. An instance whose file cannot be read has none.
using EnvironmentDigests = std::map<std::string, uint64_t>;

// Reads the environment files of all instances. Blocks on their disks, which may hang; any thread.
EnvironmentDigests ReadEnvironmentDigests(const Config& config);

}  // namespace supervisor
