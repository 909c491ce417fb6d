#include "daemon/service/targets.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "common/glob_match.h"
#include "common/near_miss.h"

namespace supervisor {
namespace {

// The targets of one call, each kind where it is found quickly: a list of thousands of names costs a look into a table
// for each instance, and only globs are compared one by one.
class TargetTable {
 public:
  explicit TargetTable(const std::vector<std::string>& targets) {
    for (const std::string& target : targets) {
      if (target == "all") {
        all_ = true;
      } else if (target.starts_with('@') || !IsGlob(target)) {
        names_.emplace(target, false);
      } else {
        globs_.emplace(target, false);
      }
    }
  }

  bool Names(const TargetCandidate& candidate) {
    bool named = all_;
    named = Found(candidate.id) || named;
    named = Found(candidate.service_id) || named;
    for (const std::string& group : candidate.groups) {
      named = Found("@" + group) || named;
    }
    for (auto& [glob, has_matched] : globs_) {
      if (GlobMatches(glob, candidate.id) || GlobMatches(glob, candidate.service_id)) {
        has_matched = named = true;
      }
    }
    return named;
  }

  // Whether it has named something by now. "all" of nothing is no error.
  bool HasMatched(const std::string& target) const {
    const auto name = names_.find(target);
    const auto glob = globs_.find(target);
    return target == "all" || (name != names_.end() && name->second) || (glob != globs_.end() && glob->second);
  }

 private:
  bool Found(const std::string& name) {
    const auto found = names_.find(name);
    return found != names_.end() && (found->second = true);
  }

  bool all_ = false;
  std::unordered_map<std::string, bool> names_;  // services, instances, @groups: whether they have named something
  std::map<std::string, bool> globs_;
};

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

bool IsNamedPlainly(const std::vector<std::string>& targets, const TargetCandidate& candidate) {
  return std::ranges::any_of(
      targets, [&](const std::string& target) { return target == candidate.id || target == candidate.service_id; });
}

absl::StatusOr<std::vector<std::string>> ResolveTargets(const std::vector<std::string>& targets,
                                                        const std::vector<TargetCandidate>& candidates) {
  std::vector<std::string> resolved;
  TargetTable table(targets);
  for (const TargetCandidate& candidate : candidates) {
    if (table.Names(candidate) || targets.empty()) {
      resolved.push_back(candidate.id);
    }
  }
  for (const std::string& target : targets) {
    if (!table.HasMatched(target)) {
      return NothingNamed(target, candidates);
    }
  }
  return resolved;
}

}  // namespace supervisor
