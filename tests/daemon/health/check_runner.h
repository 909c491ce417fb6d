#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "daemon/health/checker.h"

namespace supervisor {

// Collects results as they come; waits for them.
class Results {
 public:
  std::function<void(CheckResult)> Collect(int key = 0);
  // Waits up to a minute; a result that never comes is a failed one with its own message.
  CheckResult Await(int key = 0);
  size_t AwaitCount(size_t count);
  size_t count();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int, CheckResult> results_;
};

// One check, waited for.
CheckResult RunCheck(Checker& checker, const HealthCheckConfig& config, const CheckTarget& target = {});

// A directory that goes with its object.
class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::string& path() const { return path_; }
  // An executable file.
  std::string AddScript(const std::string& name, const std::string& content) const;

 private:
  std::string path_;
};

// Live processes (no zombies) that carry this "NAME=value" in their environment or as an argument of their command.
std::vector<pid_t> ProcessesMarked(const std::string& mark);

}  // namespace supervisor
