#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "common/diag_log.h"
#include "daemon/config/expand.h"
#include "daemon/logs/log_move.h"
#include "daemon/service/event_details.h"
#include "daemon/service/supervisor.h"

// Instances that get another name while they run, when there are more or fewer of them: "w" is "w:0" once there are
// two.

namespace supervisor {
namespace {

std::set<std::string> NamesIn(const std::string& directory) {
  std::set<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    names.insert(entry->path().filename().string());
  }
  return names;
}

bool HasBeginning(const std::set<std::string>& names, const std::string& beginning) {
  const auto first = names.lower_bound(beginning);
  return first != names.end() && first->starts_with(beginning);
}

}  // namespace

// The id that the configuration gives to what is known as `id`: "w" and "w:0" are the same one, before and after there
// are more than one. The id itself where the configuration has nothing like it.
std::string Supervisor::PresentName(const std::string& id) const {
  const std::string service = ServiceOfInstance(id);
  const auto found = config_.services.find(service);
  if (found == config_.services.end() || (id != service && id != service + ":0")) {
    return id;
  }
  return InstanceIds(found->second).front();
}

// Instances that stay stay, under whatever name: with one more instance "w" goes on as "w:0", and back.
void Supervisor::RenameInstances(const Cause& cause) {
  std::vector<std::pair<std::string, std::string>> names;
  for (const auto& [id, instance] : instances_) {
    if (const std::string present = PresentName(id); present != id && Find(present) == nullptr) {
      names.emplace_back(id, present);
    }
  }
  for (const auto& [before, now] : names) {
    auto node = instances_.extract(before);
    Instance& instance = *node.mapped();
    ServiceRow row = RowOf(instance);
    row.state = StateName(ServiceState::kStopped);
    row.pid.reset();
    store_.UpdateService(std::move(row));
    RecordEvent renamed{.type = "reloaded",
                        .message = fmt::format("goes on as {}: the number of instances has changed", now),
                        .cause = cause,
                        .exit = {},
                        .attempt = 0,
                        .delay = {}};
    rows_.push_back({.id = 0,
                     .service_id = before,
                     .event_type = renamed.type,
                     .timestamp = WallNow(),
                     .message = renamed.message,
                     .details = EventDetails(renamed, instance.pid()),
                     .actor = cause.actor});
    instance.Rename(now);
    node.key() = now;
    instances_.insert(std::move(node));
    store_.UpdateService(RowOf(instance));  // before the event that refers to it
    for (StopJob& job : stop_jobs_) {
      std::ranges::replace(job.members, before, now);
    }
    for (auto& [ticket, id] : tickets_) {
      id = id == before ? now : id;
    }
    if (removed_.erase(before) > 0) {
      removed_.insert(now);  // until it is known to come back
    }
    operations_.Renamed(before, now);
    renamed.message = instance.pid() != 0 ? fmt::format("was {} so far, and runs on: pid {}", before, instance.pid())
                                          : fmt::format("was {} so far", before);
    OnRecord(instance, renamed);
  }
}

// An earlier daemon has died between a change of the number of instances and its note of it: what it knew as "w" is
// "w:0" to the configuration, or the other way round. Its record gets the name under which it is looked for.
std::set<std::string> Supervisor::TakeUpNames(std::set<std::string> recorded) const {
  for (auto at = recorded.begin(); at != recorded.end();) {
    const std::string id = *at;
    const std::string present = PresentName(id);
    if (present == id || recorded.contains(present)) {
      ++at;
      continue;
    }
    rename(fmt::format("{}/{}.record", options_.state_directory, id).c_str(),
           fmt::format("{}/{}.record", options_.state_directory, present).c_str());
    rename(fmt::format("{}/{}.pid", context_.pid_directory, id).c_str(),
           fmt::format("{}/{}.pid", context_.pid_directory, present).c_str());
    at = recorded.erase(at);
    recorded.insert(present);
  }
  const std::set<std::string> names = NamesIn(context_.log_directory);
  for (const std::string& id : recorded) {
    TakeUpLogs(id, names);
  }
  return recorded;
}

// Its logs may have got the other name, or not yet, when that daemon died: what this instance wrote stays with it.
// `names` are those in the directory of logs, which is listed once: there are as many files as instances, and more.
void Supervisor::TakeUpLogs(const std::string& id, const std::set<std::string>& names) const {
  const size_t colon = id.find(':');
  const std::string other = colon == std::string::npos ? id + ":0" : id.substr(0, colon);
  if (colon != std::string::npos && id.substr(colon) != ":0") {
    return;
  }
  for (const char* suffix : {".log", ".err.log"}) {
    const std::string log = id + suffix;
    const std::string other_log = other + suffix;
    if (names.contains(log) || (!HasBeginning(names, other_log) && !HasBeginning(names, "." + other_log))) {
      continue;  // as nearly always
    }
    if (const absl::Status moved = MoveLog(fmt::format("{}/{}", context_.log_directory, other_log),
                                           fmt::format("{}/{}", context_.log_directory, log));
        !moved.ok()) {
      LogWarning("a log keeps the name of before", {{"service", id}, {"error", std::string(moved.message())}});
    }
  }
}

}  // namespace supervisor
