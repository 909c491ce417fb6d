#include "daemon/service/targets.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <set>

#include "common/near_miss.h"

namespace supervisor {
namespace {

bool Matches(const std::string& target, const TargetCandidate& candidate) {
  if (target == "all") {
    return true;
  }
  if (target.starts_with('@')) {
    return std::ranges::count(candidate.groups, target.substr(1)) > 0;
  }
  if (target.find_first_of("*?[") != std::string::npos) {
    return fnmatch(target.c_str(), candidate.id.c_str(), 0) == 0 ||
           fnmatch(target.c_str(), candidate.service_id.c_str(), 0) == 0;
  }
  return target == candidate.id || target == candidate.service_id;
}

absl::Status NothingNamed(const std::string& target, const std::vector<TargetCandidate>& candidates) {
  std::set<std::string> names;
  const bool is_group = target.starts_with('@');
  for (const TargetCandidate& candidate : candidates) {
    if (is_group) {
      for (const std::string& group : candidate.groups) {
        names.insert("@" + group);
      }
    } else {
      names.insert(candidate.service_id);
      names.insert(candidate.id);
    }
  }
  const std::vector<std::string> all(names.begin(), names.end());
  std::string message = fmt::format("no such {}: {}", is_group ? "group" : "service", target);
  if (const std::vector<std::string> near = NearMisses(target, all); !near.empty()) {
    message += fmt::format(" (did you mean {}?)", fmt::join(near, " or "));
  } else if (all.empty()) {
    message += is_group ? " (no service is in a group)" : " (none is configured)";
  } else {
    constexpr size_t kShown = 8;
    const size_t shown = std::min(all.size(), kShown);
    message += fmt::format(" (there {} {}{})", all.size() == 1 ? "is" : "are",
                           fmt::join(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
                           all.size() > shown ? ", ..." : "");
  }
  return absl::NotFoundError(message);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ResolveTargets(const std::vector<std::string>& targets,
                                                        const std::vector<TargetCandidate>& candidates) {
  std::set<std::string> chosen;
  for (const std::string& target : targets) {
    bool any = target == "all";  // "all" of nothing is not an error
    for (const TargetCandidate& candidate : candidates) {
      if (Matches(target, candidate)) {
        chosen.insert(candidate.id);
        any = true;
      }
    }
    if (!any) {
      return NothingNamed(target, candidates);
    }
  }
  std::vector<std::string> resolved;
  for (const TargetCandidate& candidate : candidates) {
    if (targets.empty() || chosen.contains(candidate.id)) {
      resolved.push_back(candidate.id);
    }
  }
  return resolved;
}

}  // namespace supervisor
