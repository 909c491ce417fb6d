#pragma once

#include <unistd.h>

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "daemon/logs/log_pump.h"
#include "gtest/gtest.h"
#include "tests/daemon/logs/log_test_util.h"

namespace supervisor {

// A pump, and a directory with FIFOs above and the logs below.
class LogPumpTest : public testing::Test {
 protected:
  LogStreamOptions Options(const std::string& name) const {
    LogStreamOptions options;
    options.fifo_path = dir_ / (name + ".fifo");
    options.file_path = dir_ / ("log/" + name + ".log");
    options.fifo_uid = getuid();
    options.fifo_gid = getgid();
    return options;
  }
  UniqueFd MustOpen(const std::string& name, const LogStreamOptions& options) {
    absl::StatusOr<UniqueFd> opened = pump_->Open(name, options);
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened.ok() ? *std::move(opened) : UniqueFd();
  }

  TempDir dir_;
  std::mutex mutex_;
  std::vector<std::string> troubles_;
  int remade_ = 0;
  std::unique_ptr<LogPump> pump_ = std::make_unique<LogPump>(
      [this](const std::string&, const std::string& error, const LogStreamStats&) {
        const std::lock_guard lock(mutex_);
        troubles_.push_back(error);
      },
      nullptr,
      [this](const std::string&, const std::string&) {
        const std::lock_guard lock(mutex_);
        ++remade_;
      });
  int Remade() {
    const std::lock_guard lock(mutex_);
    return remade_;
  }
};

}  // namespace supervisor
