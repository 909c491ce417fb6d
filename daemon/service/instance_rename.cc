#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>

#include "daemon/service/instance.h"

// How an instance gets another id while its process runs.

namespace supervisor {

void Instance::Rename(const std::string& id) {
  const std::string old_log = log_path();
  const std::string old_error_log = stderr_log_path();
  const std::string old_stdout = stdout_stream();
  const std::string old_stderr = stderr_stream();
  const std::string old_record = RecordPath();
  const std::string before = std::exchange(id_, id);
  context_.logs.Rename(old_stdout, old_log, stdout_stream(), StreamOptions(false));
  context_.logs.Rename(old_stderr, old_error_log, stderr_stream(), StreamOptions(true));
  health_.Rename(id_);
  // The record says under which name the process was started, so one that bears the new name is enough to find it by.
  context_.files.Post([old_record, record = RecordPath(), directory = context_.pid_directory, before, id] {
    rename(old_record.c_str(), record.c_str());
    rename(fmt::format("{}/{}.pid", directory, before).c_str(), fmt::format("{}/{}.pid", directory, id).c_str());
  });
  changed_ = true;
}

// A new process bears the present id in all that it has.
void Instance::TakeOwnName() {
  if (process_name_ == id_) {
    return;
  }
  process_name_ = id_;
  LeaveCgroup();
  leaving_.reset();  // it is removed, and not taken back: it has the other name
  tree_ = ProcessTree(nullptr);
}

}  // namespace supervisor
