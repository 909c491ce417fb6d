#include "daemon/rpc/named_targets.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "daemon/config/value_rules.h"

namespace supervisor {
namespace {

bool IsNumber(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](unsigned char c) { return std::isdigit(c) != 0; });
}

// A service's id, or an instance's.
bool IsPlainName(std::string_view target) {
  const size_t colon = target.find(':');
  return IsServiceId(target.substr(0, colon)) &&
         (colon == std::string_view::npos || IsNumber(target.substr(colon + 1)));
}

void AddOnce(std::vector<Instance*>& instances, const std::vector<Instance*>& more) {
  for (Instance* instance : more) {
    if (std::ranges::count(instances, instance) == 0) {
      instances.push_back(instance);
    }
  }
}

}  // namespace

absl::StatusOr<NamedTargets> LookUpTargets(const Supervisor& supervisor, const std::vector<std::string>& targets) {
  NamedTargets named;
  absl::StatusOr<std::vector<Instance*>> all = supervisor.Resolve(targets);
  if (all.ok()) {
    named.instances = *std::move(all);
    return named;
  }
  for (const std::string& target : targets) {
    const absl::StatusOr<std::vector<Instance*>> found = supervisor.Resolve({target});
    if (found.ok()) {
      AddOnce(named.instances, *found);
    } else if (absl::IsNotFound(found.status()) && IsPlainName(target)) {
      named.unknown.push_back({target, found.status()});
    } else {
      return found.status();
    }
  }
  return named;
}

std::vector<Instance*> LookUpAgain(const Supervisor& supervisor, const std::vector<std::string>& targets) {
  std::vector<Instance*> instances;
  for (const std::string& target : targets) {
    if (const absl::StatusOr<std::vector<Instance*>> found = supervisor.Resolve({target}); found.ok()) {
      AddOnce(instances, *found);
    }
  }
  return instances;
}

bool IsInstanceOf(const std::string& id, const std::string& name) {
  return id == name || (id.size() > name.size() + 1 && id.starts_with(name) && id[name.size()] == ':' &&
                        IsNumber(std::string_view(id).substr(name.size() + 1)));
}

}  // namespace supervisor
