#include "tests/daemon/health/check_runner.h"

#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "daemon/process/proc_fs.h"

namespace supervisor {

std::function<void(CheckResult)> Results::Collect(int key) {
  return [this, key](CheckResult result) {
    const std::lock_guard lock(mutex_);
    results_[key] = std::move(result);
    changed_.notify_all();
  };
}

CheckResult Results::Await(int key) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, std::chrono::minutes(1), [&] { return results_.contains(key); })) {
    return {.message = "(the check never told its result)", .finished = {}};
  }
  return results_.at(key);
}

size_t Results::AwaitCount(size_t count) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::minutes(1), [&] { return results_.size() >= count; });
  return results_.size();
}

size_t Results::count() {
  const std::lock_guard lock(mutex_);
  return results_.size();
}

CheckResult RunCheck(Checker& checker, const HealthCheckConfig& config, const CheckTarget& target) {
  Results results;
  checker.Start(config, target, results.Collect());
  return results.Await();
}

TempDirectory::TempDirectory() {
  std::string pattern = (std::filesystem::temp_directory_path() / "health_test.XXXXXX").string();
  path_ = mkdtemp(pattern.data());
}

TempDirectory::~TempDirectory() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

std::string TempDirectory::AddScript(const std::string& name, const std::string& content) const {
  const std::string path = path_ + "/" + name;
  {
    std::ofstream file(path);
    file << content;
  }
  chmod(path.c_str(), 0755);
  return path;
}

std::vector<pid_t> ProcessesMarked(const std::string& mark) {
  std::vector<pid_t> found;
  for (const ProcStat& process : ReadAllProcesses()) {
    if (process.is_dead()) {
      continue;
    }
    for (const char* file : {"environ", "cmdline"}) {
      std::ifstream stream("/proc/" + std::to_string(process.pid) + "/" + file);
      std::stringstream content;
      content << stream.rdbuf();
      if (content.str().find(mark) != std::string::npos) {
        found.push_back(process.pid);
        break;
      }
    }
  }
  return found;
}

}  // namespace supervisor
