#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "daemon/service/supervisor.h"

namespace supervisor {

// What the targets of a call for history name: `logs` and `events` also know services that a reload has removed.
struct NamedTargets {
  std::vector<Instance*> instances;  // each once
  // Names, without wildcards, that no configured service has, and what to say where they have left nothing either.
  struct Unknown {
    std::string name;
    absl::Status status;
  };
  std::vector<Unknown> unknown;
};

// Loop thread. Fails where a group or a wildcard names nothing.
absl::StatusOr<NamedTargets> LookUpTargets(const Supervisor& supervisor, const std::vector<std::string>& targets);

// The same again, after a reload: what they name now. Never fails.
std::vector<Instance*> LookUpAgain(const Supervisor& supervisor, const std::vector<std::string>& targets);

// Whether `id` is `name` or one of its instances ("web:3"). Pure.
bool IsInstanceOf(const std::string& id, const std::string& name);

}  // namespace supervisor
