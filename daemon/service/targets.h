#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace supervisor {

// What a TARGET of the contract can name: a service id, an instance, a glob, @group, or all. Pure.
struct TargetCandidate {
  std::string id;  // of the instance
  std::string service_id;
  std::vector<std::string> groups;
};

// The instances that the targets name, without doubles, in the order of `candidates`. Empty `targets` names all.
// NotFound where one of them names nothing: the message says which, with near misses.
absl::StatusOr<std::vector<std::string>> ResolveTargets(const std::vector<std::string>& targets,
                                                        const std::vector<TargetCandidate>& candidates);

// One of the targets is the id of the instance or of its service; not a glob, a group or all, which only select among
// what is there.
bool IsNamedPlainly(const std::vector<std::string>& targets, const TargetCandidate& candidate);

}  // namespace supervisor
