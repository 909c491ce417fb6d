#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <future>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>

#include "common/clock.h"
#include "daemon/logs/log_pump.h"
#include "gtest/gtest.h"

namespace supervisor {

// A directory of the test's own, removed with all that is in it.
class TempDir {
 public:
  TempDir() {
    std::string name = testing::TempDir() + "supervisor_logs_XXXXXX";
    path_ = mkdtemp(name.data()) == nullptr ? "" : name;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() { RemoveTree(path_); }

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

  static void RemoveTree(const std::string& path) {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }

 private:
  std::string path_;
};

inline bool Exists(const std::string& path) {
  struct stat status {};
  return lstat(path.c_str(), &status) == 0;
}

inline bool IsRegular(const std::string& path) {
  struct stat status {};
  return lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

inline std::string ReadFile(const std::string& path) {
  std::string content;
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string block(1 << 20, '\0');
  for (ssize_t n = 0; fd && (n = read(fd.get(), block.data(), block.size())) > 0;) {
    content.append(block, 0, static_cast<size_t>(n));
  }
  return content;
}

inline void WriteFile(const std::string& path, std::string_view content) {
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  ASSERT_EQ(write(fd.get(), content.data(), content.size()), static_cast<ssize_t>(content.size()));
}

// The whole log, oldest rotated file first.
inline std::string ReadWholeLog(const std::string& path) {
  int oldest = 0;
  while (Exists(path + "." + std::to_string(oldest + 1))) {
    ++oldest;
  }
  std::string content;
  for (; oldest > 0; --oldest) {
    content += ReadFile(path + "." + std::to_string(oldest));
  }
  return content + ReadFile(path);
}

// What a service does: all of it, waiting while the pipe is full.
inline void WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    ASSERT_GT(n, 0) << errno;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

inline std::string NumberedLines(uint64_t first, uint64_t count) {
  std::string lines;
  for (uint64_t i = first; i < first + count; ++i) {
    lines += "line " + std::to_string(i) + " of the output\n";
  }
  return lines;
}

// Until the condition holds; false when it does not within the time.
inline bool Await(const std::function<bool()>& condition, absl::Duration timeout = absl::Seconds(10)) {
  for (const MonoTime end = MonotonicNow() + timeout; MonotonicNow() < end;) {
    if (condition()) {
      return true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return condition();
}

inline void FlushAndWait(LogPump& pump, const std::string& stream) {
  std::promise<void> flushed;
  pump.Flush(stream, absl::Seconds(60), [&flushed] { flushed.set_value(); });
  flushed.get_future().wait();
}

}  // namespace supervisor
