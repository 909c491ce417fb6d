#include "daemon/config/references.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "common/paths.h"
#include "daemon/config/message_text.h"

namespace supervisor {
namespace {

constexpr size_t kMostCandidates = 1000;  // a near miss costs time for each
constexpr size_t kLongestCycleShown = 20;

std::string DanglingMessage(const std::string& id, const ServicePlaces& places) {
  if (id.starts_with('@')) {
    return fmt::format("is {}, but depends_on takes services, not groups (expected a service id)", Quote(id));
  }
  const size_t colon = id.find(':');
  if (colon != std::string::npos && places.contains(id.substr(0, colon))) {
    return fmt::format("is {}, but depends_on takes services, not instances (did you mean {}?)", Quote(id),
                       Quote(id.substr(0, colon)));
  }
  std::vector<std::string> candidates;
  if (places.size() <= kMostCandidates) {
    for (const auto& [candidate, place] : places) {
      candidates.push_back(candidate);
    }
  }
  const std::string near = DidYouMean(id, candidates);
  return fmt::format("is {}, but there is no such service ({})", Quote(id),
                     near.empty() ? "expected the id of a service" : near);
}

// Depth first, with its own stack: the chain can be as long as there are services.
class CycleFinder {
 public:
  CycleFinder(const ServicePlaces& places, ErrorList& errors) : places_(places), errors_(errors) {}

  void Run() {
    for (const auto& [id, place] : places_) {
      if (!finished_.contains(id)) {
        Visit(id);
      }
    }
  }

 private:
  struct Step {
    const std::string* id;
    const ServicePlace* place;
    size_t next = 0;  // of its dependencies
  };

  void Enter(const std::string& id) {
    const auto found = places_.find(id);
    path_.push_back({.id = &found->first, .place = &found->second});
    on_path_.insert(id);
  }

  void Visit(const std::string& start) {
    Enter(start);
    while (!path_.empty()) {
      Step& step = path_.back();
      if (step.next == step.place->depends_on.size()) {
        on_path_.erase(*step.id);
        finished_.insert(*step.id);
        path_.pop_back();
        continue;
      }
      const std::string& dependency = step.place->depends_on[step.next++].text;
      if (on_path_.contains(dependency)) {
        Report(dependency);
      } else if (places_.contains(dependency) && !finished_.contains(dependency)) {
        Enter(dependency);
      }
    }
  }

  // The circle from `first`, which is on the path, to the path's end; told from its first id in the alphabet.
  void Report(const std::string& first) {
    auto begin = std::find_if(path_.begin(), path_.end(), [&first](const Step& step) { return *step.id == first; });
    std::vector<Step> circle(begin, path_.end());
    std::rotate(
        circle.begin(),
        std::min_element(circle.begin(), circle.end(), [](const Step& a, const Step& b) { return *a.id < *b.id; }),
        circle.end());
    const Step& told = circle.front();
    const PlacedText& edge = told.place->depends_on[told.next - 1];
    if (circle.size() == 1) {
      errors_.Add(*told.place->source, edge.offset, edge.path,
                  "the service depends on itself (expected another service)");
      return;
    }
    std::string text;
    for (size_t i = 0; i < std::min(circle.size(), kLongestCycleShown); ++i) {
      text += *circle[i].id + " -> ";
    }
    text += circle.size() > kLongestCycleShown ? fmt::format("({} more) -> ", circle.size() - kLongestCycleShown) : "";
    errors_.Add(*told.place->source, edge.offset, edge.path,
                fmt::format("circular dependency {}{} (none of them could start first: remove one)", text, *told.id));
  }

  const ServicePlaces& places_;
  ErrorList& errors_;
  std::vector<Step> path_;
  std::set<std::string> on_path_;
  std::set<std::string> finished_;
};

}  // namespace

void CheckDanglingDependencies(const ServicePlaces& places, ErrorList& errors) {
  for (const auto& [id, place] : places) {
    for (const PlacedText& dependency : place.depends_on) {
      if (!places.contains(dependency.text)) {
        errors.Add(*place.source, dependency.offset, dependency.path,
                   errors.full() ? "" : DanglingMessage(dependency.text, places));
      }
    }
  }
}

void CheckDependencyCycles(const ServicePlaces& places, ErrorList& errors) { CycleFinder(places, errors).Run(); }

void CheckFileCollisions(const Config& config, const ServicePlaces& places, ErrorList& errors) {
  const auto report = [&](const std::string& id, const std::string& message) {
    const ServicePlace& place = places.at(id);
    errors.Add(*place.source, place.offset, place.path, message);
  };
  const std::string daemon_pid_file = GetRuntimePaths(config.global.socket).pid_file;
  for (const auto& [id, service] : config.services) {
    const std::string log = fmt::format("{}/{}.log", config.global.log_directory, id);
    const std::string error_log = fmt::format("{}/{}.err.log", config.global.log_directory, id);
    const bool has_error_log = service.logs.stderr_mode == StderrMode::kSeparate;
    if (log == config.global.log_file || (has_error_log && error_log == config.global.log_file)) {
      report(id, fmt::format("its log would be the daemon's own, {} (expected another id, or another global.log_file)",
                             config.global.log_file));
    }
    if (has_error_log && config.services.contains(id + ".err")) {
      report(id + ".err", fmt::format("its log would be {}.err.log, which is the stderr of {} (expected another id)",
                                      id, Quote(id)));
    }
    if (fmt::format("{}/{}.pid", config.global.pid_directory, id) == daemon_pid_file) {
      report(id,
             fmt::format(
                 "its pid file would be the daemon's own, {} (expected another id, or another global.pid_directory)",
                 daemon_pid_file));
    }
  }
}

}  // namespace supervisor
