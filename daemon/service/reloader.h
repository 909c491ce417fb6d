#pragma once

#include <functional>
#include <string>
#include <vector>

#include "daemon/config/diff.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/worker.h"
#include "daemon/service/supervisor.h"

namespace supervisor {

struct ReloadResult {
  bool applied = false;
  ReloadPlan plan;
  std::vector<std::string> errors;  // FILE:LINE:COLUMN: ...; then nothing was changed
};

// Reads the configuration file again, off the loop thread, and applies what differs. One at a time, in order.
class Reloader {
 public:
  // `applied` is told, on the loop thread, what is in force from now on; `kept` is to be called, there too, when that
  // is on disk.
  using Applied = std::function<void(std::vector<ConfigText> texts, std::function<void()> kept)>;
  Reloader(Loop& loop, Worker& worker, Supervisor& supervisor, std::string config_file, Applied applied)
      : loop_(loop),
        worker_(worker),
        supervisor_(supervisor),
        config_file_(std::move(config_file)),
        applied_(std::move(applied)) {}

  // Loop thread; `done` too.
  void Reload(bool dry_run, const Cause& cause, std::function<void(ReloadResult)> done);

 private:
  Loop& loop_;
  Worker& worker_;
  Supervisor& supervisor_;
  std::string config_file_;
  Applied applied_;
};

}  // namespace supervisor
