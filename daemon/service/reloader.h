#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/config/diff.h"
#include "daemon/loop/helper_calls.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/worker.h"
#include "daemon/service/environment_digest.h"
#include "daemon/service/supervisor.h"

namespace supervisor {

struct ReloadResult {
  bool applied = false;
  ReloadPlan plan;
  std::vector<std::string> errors;  // FILE:LINE:COLUMN: ...; then nothing was changed
};

// Reads the configuration file again, off the loop thread, and the environment files that it names, and applies what
// differs. One at a time, in order. Loop thread.
class Reloader {
 public:
  // `applied` is told, on the loop thread, what is in force from now on; `kept` is to be called, there too, when that
  // is on disk.
  using Applied = std::function<void(std::vector<ConfigText> texts, std::function<void()> kept)>;
  // `load` reads the files, on the worker's thread.
  using Load = std::function<LoadedConfig()>;
  Reloader(Loop& loop, Worker& worker, Supervisor& supervisor, Load load, Applied applied)
      : loop_(loop),
        worker_(worker),
        supervisor_(supervisor),
        load_(std::move(load)),
        applied_(std::move(applied)),
        helpers_(loop, kMostHelpers) {}

  // Called on the worker's thread with a configuration without errors: a status that is not OK is one more error.
  void SetCheck(std::function<absl::Status(const Config&, bool dry_run)> check) { check_ = std::move(check); }

  void Reload(bool dry_run, const Cause& cause, std::function<void(ReloadResult)> done);

 private:
  static constexpr size_t kMostHelpers = 2;  // so many may hang before environment files are no longer looked at

  struct Request {
    bool dry_run = false;
    Cause cause;
    std::function<void(ReloadResult)> done;
  };
  void BeginNext();
  void TakeLoaded(const std::shared_ptr<LoadedConfig>& loaded, const absl::Status& checked);
  void Decide(LoadedConfig& loaded, const EnvironmentDigests& files);
  void Finish(std::optional<ReloadResult> result);

  Loop& loop_;
  Worker& worker_;
  Supervisor& supervisor_;
  Load load_;
  Applied applied_;
  std::function<absl::Status(const Config&, bool dry_run)> check_;
  HelperCalls helpers_;
  std::deque<Request> requests_;  // the first is under way
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace supervisor
