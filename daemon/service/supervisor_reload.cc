#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "common/fail_point.h"
#include "daemon/config/expand.h"
#include "daemon/service/event_details.h"
#include "daemon/service/supervisor.h"

// How another configuration takes effect: what goes, what comes, what has another name, what is started anew.

namespace supervisor {
namespace {

bool Has(const std::vector<std::string>& ids, const std::string& id) { return std::ranges::find(ids, id) != ids.end(); }

// The two could not run side by side: they would listen on the same port, or are the same program under two names.
bool CouldConflict(const ServiceConfig& leaving, const ServiceConfig& coming) {
  const bool same_port = leaving.port != 0 && leaving.port == coming.port;
  return same_port || (leaving.run == coming.run && leaving.working_directory == coming.working_directory);
}

}  // namespace

// The instances, by the ids that `wanted` gives them, whose processes were started with other contents of their
// environment files than those have now. One that is down reads its file when it is started.
std::set<std::string> Supervisor::StaleInstances(const Config& wanted, const EnvironmentDigests& files) const {
  std::set<std::string> stale;
  for (const auto& [id, service] : wanted.services) {
    const auto before = config_.services.find(id);
    if (service.environment_file.empty() || before == config_.services.end()) {
      continue;
    }
    const std::vector<std::string> now = InstanceIds(before->second);
    const std::vector<std::string> then = InstanceIds(service);
    for (size_t i = 0; i < std::min(now.size(), then.size()); ++i) {
      const Instance* instance = Find(now[i]);
      const auto file = files.find(then[i]);
      if (instance != nullptr && instance->machine().desired_up && instance->environment_file_digest() != 0 &&
          file != files.end() && file->second != instance->environment_file_digest()) {
        stale.insert(then[i]);
      }
    }
  }
  return stale;
}

ReloadPlan Supervisor::Plan(const Config& wanted, const EnvironmentDigests& files) const {
  return PlanReload(config_, wanted, StaleInstances(wanted, files));
}

// What comes waits until what goes, and could conflict with it, is gone.
void Supervisor::OrderAfterRemoved(const std::vector<Instance*>& coming) {
  for (Instance* instance : coming) {
    std::set<std::string> after;
    for (const std::string& id : removed_) {
      const Instance* leaving = Find(id);
      if (leaving != nullptr && leaving != instance && CouldConflict(leaving->config(), instance->config())) {
        after.insert(id);
      }
    }
    instance->StartAfter(std::move(after));
  }
}

ReloadPlan Supervisor::Reload(Config wanted, const EnvironmentDigests& files, const Cause& cause) {
  DrainEvents();  // by the names that they were enqueued under
  ReloadPlan plan = Plan(wanted, files);
  StopJob job{.members = {},
              .before = std::make_shared<const std::map<std::string, ServiceConfig>>(std::move(config_.services))};
  config_ = std::move(wanted);
  store_.SetRetention(config_.monitoring.metrics_retention, config_.monitoring.events_retention);
  alerts_.Configure(config_.monitoring.alerts, config_.notifications);
  if (options_.configure_notifications) {
    options_.configure_notifications(config_.notifications);
  }
  RenameInstances(cause);
  FailPoint(FailPointId::kReloadRenamed);
  RemoveUnconfigured(job, cause);
  const auto ids_of = [this](const ServiceChange& change) {
    const auto service = config_.services.find(change.id);
    return service == config_.services.end() ? std::vector{change.id} : InstanceIds(service->second);
  };
  std::set<std::string> touched;
  std::set<std::string> to_start;  // services: those of their instances that are down, and that nobody has stopped
  for (const auto* changes : {&plan.added, &plan.updated, &plan.restarted}) {
    for (const ServiceChange& change : *changes) {
      touched.insert(ServiceOfInstance(change.id));
      if (changes != &plan.updated || Has(change.keys, "enabled")) {
        to_start.insert(ServiceOfInstance(change.id));
      }
    }
  }
  for (const ServiceChange& change : plan.removed) {
    if (config_.services.contains(ServiceOfInstance(change.id))) {
      touched.insert(ServiceOfInstance(change.id));  // those that stay are fewer now
    }
  }
  std::set<std::string> known;
  std::set<std::string> returning;  // were being removed
  std::vector<Instance*> coming;
  for (const std::string& service : touched) {
    const std::vector<std::string> ids = InstanceIds(config_.services.at(service));
    for (const std::string& id : ids) {
      if (Find(id) != nullptr) {
        (removed_.contains(id) ? returning : known).insert(id);
      }
    }
    AddInstances(config_.services.at(service));
    for (const std::string& id : ids) {
      if (!known.contains(id)) {
        coming.push_back(Find(id));
      }
    }
  }
  OrderAfterRemoved(coming);
  for (const ServiceChange& change : plan.restarted) {
    for (const std::string& id : ids_of(change)) {
      if (known.contains(id) && Find(id)->machine().desired_up) {
        Enqueue(*Find(id), RestartRequested{cause, true});
        job.members.push_back(id);
      }
    }
  }
  for (const std::string& service : to_start) {
    StartEnabled(config_.services.at(service), returning, cause);
  }
  DrainEvents();
  stop_jobs_.push_back(std::move(job));
  order_changed_ = true;
  unsettled_ = true;
  RecordOwnEvent("reloaded",
                 fmt::format("configuration reloaded: {} added, {} removed, {} restarted, {} updated",
                             plan.added.size(), plan.removed.size(), plan.restarted.size(), plan.updated.size()),
                 cause);
  target_watch_.Tell();
  return plan;
}

void Supervisor::RemoveUnconfigured(StopJob& job, const Cause& cause) {
  for (const auto& [id, instance] : instances_) {
    const auto service = config_.services.find(instance->config().id);
    const bool stays = service != config_.services.end() && Has(InstanceIds(service->second), id);
    if (!stays && !removed_.contains(id)) {
      removed_.insert(id);
      Enqueue(*instance, StopRequested{cause, true});
      job.members.push_back(id);
    }
  }
}

void Supervisor::StartEnabled(const ServiceConfig& service, const std::set<std::string>& returning,
                              const Cause& cause) {
  if (!service.enabled) {
    return;
  }
  for (const std::string& id : InstanceIds(service)) {
    Instance* instance = Find(id);
    const bool is_down = instance->machine().phase == Phase::kStopped && !instance->stopped_by_request();
    if (is_down || returning.contains(id)) {
      Enqueue(*instance, StartRequested{cause});
    }
  }
}

}  // namespace supervisor
