#include "daemon/service/reloader.h"

#include <memory>
#include <utility>

#include "common/diag_log.h"
#include "common/fail_point.h"

namespace supervisor {

void Reloader::Reload(bool dry_run, const Cause& cause, std::function<void(ReloadResult)> done) {
  worker_.Post([this, dry_run, cause, done = std::move(done)] {
    auto loaded = std::make_shared<LoadedConfig>(LoadConfig(config_file_));
    loop_.Post([this, dry_run, cause, done, loaded] {
      ReloadResult result;
      for (const ConfigError& error : loaded->errors) {
        result.errors.push_back(error.ToString());
        LogError("configuration not reloaded", {{"error", result.errors.back()}});
      }
      if (result.errors.empty() && loaded->config) {
        if (supervisor_.shutting_down()) {
          result.errors.emplace_back("the daemon is stopping all services: nothing is reloaded");
        } else if (dry_run) {
          result.plan = supervisor_.Plan(*loaded->config);
        } else {
          FailPoint(FailPointId::kReloadDecided);
          result.plan = supervisor_.Reload(*std::move(loaded->config), cause);
          FailPoint(FailPointId::kReloadApplied);
          result.applied = true;
          // Whoever hears that it is applied may rely on that, whatever becomes of this daemon.
          applied_(std::move(loaded->texts), [this, done, result = std::move(result)] {
            supervisor_.WhenRecorded([done, result] { done(result); });
          });
          return;
        }
      }
      done(std::move(result));
    });
  });
}

}  // namespace supervisor
