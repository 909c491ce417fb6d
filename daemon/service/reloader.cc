#include "daemon/service/reloader.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "common/diag_log.h"
#include "common/fail_point.h"
#include "daemon/loop/patience.h"

namespace supervisor {
namespace {

constexpr absl::Duration kFilesPatience = absl::Seconds(5);

bool HasEnvironmentFiles(const Config& config) {
  return std::ranges::any_of(config.services, [](const auto& entry) { return !entry.second.environment_file.empty(); });
}

}  // namespace

void Reloader::Reload(bool dry_run, const Cause& cause, std::function<void(ReloadResult)> done) {
  requests_.push_back({.dry_run = dry_run, .cause = cause, .done = std::move(done)});
  if (requests_.size() == 1) {
    BeginNext();
  }
}

void Reloader::BeginNext() {
  worker_.Post([this, dry_run = requests_.front().dry_run] {
    auto loaded = std::make_shared<LoadedConfig>(load_());
    absl::Status checked;
    if (loaded->errors.empty() && loaded->config && check_) {
      checked = check_(*loaded->config, dry_run);
    }
    loop_.Post([this, loaded, checked] { TakeLoaded(loaded, checked); });
  });
}

void Reloader::TakeLoaded(const std::shared_ptr<LoadedConfig>& loaded, const absl::Status& checked) {
  ReloadResult refused;
  if (!checked.ok()) {
    refused.errors.emplace_back(checked.message());
    LogError("configuration not reloaded", {{"error", refused.errors.back()}});
  }
  for (const ConfigError& error : loaded->errors) {
    refused.errors.push_back(error.ToString());
    LogError("configuration not reloaded", {{"error", refused.errors.back()}});
  }
  if (!refused.errors.empty() || !loaded->config) {
    Finish(std::move(refused));
    return;
  }
  if (!HasEnvironmentFiles(*loaded->config)) {
    Decide(*loaded, {});
    return;
  }
  const WithPatience<EnvironmentDigests> files(
      loop_, kFilesPatience, "environment files did not answer: a file system that hangs?",
      [this, loaded](const absl::StatusOr<EnvironmentDigests>& digests) {
        if (!digests.ok()) {
          LogWarning("whether environment files have changed is not known: services are not restarted for it",
                     {{"error", std::string(digests.status().message())}});
        }
        Decide(*loaded, digests.ok() ? *digests : EnvironmentDigests());
      });
  helpers_.Ask<EnvironmentDigests>(
      alive_, [config = *loaded->config] { return ReadEnvironmentDigests(config); }, files);
}

void Reloader::Decide(LoadedConfig& loaded, const EnvironmentDigests& files) {
  const Request& request = requests_.front();
  ReloadResult result;
  if (supervisor_.shutting_down()) {
    result.errors.emplace_back("the daemon is stopping all services: nothing is reloaded");
  } else if (request.dry_run) {
    result.plan = supervisor_.Plan(*loaded.config, files);
  } else {
    FailPoint(FailPointId::kReloadDecided);
    result.plan = supervisor_.Reload(*std::move(loaded.config), files, request.cause);
    FailPoint(FailPointId::kReloadApplied);
    result.applied = true;
    // Whoever hears that it is applied may rely on that, whatever becomes of this daemon.
    applied_(std::move(loaded.texts), [this, done = request.done, result = std::move(result)] {
      supervisor_.WhenRecorded([done, result] { done(result); });
    });
    Finish(std::nullopt);
    return;
  }
  Finish(std::move(result));
}

// Answers the request under way and begins the next. No result: it is answered when its outcome is on disk.
void Reloader::Finish(std::optional<ReloadResult> result) {
  const Request request = std::move(requests_.front());
  requests_.pop_front();
  if (result) {
    request.done(*std::move(result));
  }
  if (!requests_.empty()) {
    BeginNext();
  }
}

}  // namespace supervisor
