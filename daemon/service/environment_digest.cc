#include "daemon/service/environment_digest.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/checksum.h"
#include "daemon/config/expand.h"

namespace supervisor {

uint64_t EnvironmentDigest(const Environment& variables) {
  Environment sorted = variables;
  std::ranges::sort(sorted);
  std::string text;
  for (const auto& [name, value] : sorted) {
    text.append(name).append(1, '=').append(value).append(1, '\0');
  }
  return std::max<uint64_t>(Checksum(text), 1);
}

EnvironmentDigests ReadEnvironmentDigests(const Config& config) {
  EnvironmentDigests digests;
  std::map<std::pair<std::string, std::string>, uint64_t> by_file;  // and user; many share one; 0: it cannot be read
  for (const auto& [id, service] : config.services) {
    if (service.environment_file.empty()) {
      continue;
    }
    const std::vector<std::string> instances = InstanceIds(service);
    for (size_t i = 0; i < instances.size(); ++i) {
      const ServiceConfig instance = ForInstance(service, static_cast<int>(i));
      const auto [known, is_new] = by_file.emplace(std::pair(instance.environment_file, instance.user), 0);
      if (is_new) {
        const absl::StatusOr<Environment> variables = ReadEnvironmentFileOf(instance);
        known->second = variables.ok() ? EnvironmentDigest(*variables) : 0;
      }
      if (known->second != 0) {
        digests.emplace(instances[i], known->second);
      }
    }
  }
  return digests;
}

}  // namespace supervisor
