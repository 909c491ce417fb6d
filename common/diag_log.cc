#include "common/diag_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "common/clock.h"
#include "common/errno_status.h"
#include "common/time_format.h"
#include "common/unique_fd.h"

namespace supervisor {
namespace {

constexpr size_t kMaxQueued = 4096;
constexpr std::chrono::milliseconds kGather(2);

std::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

void AppendValue(std::string& line, std::string_view value) {
  const bool plain = !value.empty() && value.find_first_of(" \"=\\") == std::string_view::npos &&
                     value.find_first_of(std::string_view("\n\r\t", 3)) == std::string_view::npos;
  if (plain) {
    line += value;
    return;
  }
  line += '"';
  for (const char c : value) {
    if (c == '"' || c == '\\') {
      line += '\\';
      line += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      line += c;
    }
  }
  line += '"';
}

bool WriteAll(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t written = write(fd, data.data(), data.size());
    if (written < 0) {
      if (errno == EINTR) {
        continue;
      }
      return false;
    }
    data.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

// A thread of its own writes, so that a disk that hangs holds up nobody who logs.
class Writer {
 public:
  Writer() = default;
  static Writer& Get() {
    static Writer writer;
    return writer;
  }

  absl::Status Configure(const std::string& file, LogLevel level, bool to_stderr) {
    UniqueFd fd;
    if (!file.empty()) {
      fd.Reset(open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0640));
      if (!fd) {
        return ErrnoToStatus(errno, fmt::format("log_file {}", file));
      }
    }
    const std::lock_guard lock(mutex_);
    file_ = std::move(fd);
    level_ = level;
    to_stderr_ = to_stderr;
    if (!thread_.joinable()) {
      stopping_ = false;
      thread_ = std::thread([this] { Run(); });
    }
    return absl::OkStatus();
  }

  void Add(LogLevel level, std::string line) {
    std::unique_lock lock(mutex_);
    if (level < level_) {
      return;
    }
    if (!thread_.joinable()) {
      WriteAll(STDERR_FILENO, line);
      return;
    }
    if (queue_.size() >= kMaxQueued) {
      ++dropped_;
      return;
    }
    queue_.push_back(std::move(line));
    urgent_ = urgent_ || level >= LogLevel::kWarning;
    const bool is_awake = gathering_ && !urgent_;
    lock.unlock();
    if (!is_awake) {
      wake_.notify_one();
    }
  }

  uint64_t dropped() {
    const std::lock_guard lock(mutex_);
    return dropped_;
  }

  void Shutdown() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) {
      thread_.join();
    }
  }

  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() { Shutdown(); }

 private:
  void Run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) {
        return;
      }
      // Hundreds of services that end at once have as many lines to tell: what comes right after the first goes with
      // it, so that each costs those who tell it no wake-up.
      gathering_ = true;
      wake_.wait_for(lock, kGather, [this] { return stopping_ || urgent_; });
      gathering_ = false;
      urgent_ = false;
      std::deque<std::string> batch;
      batch.swap(queue_);
      const bool to_stderr = to_stderr_;
      const UniqueFd file(file_ ? fcntl(file_.get(), F_DUPFD_CLOEXEC, 3) : -1);
      lock.unlock();
      uint64_t lost = 0;
      for (const std::string& line : batch) {
        if (file && !WriteAll(file.get(), line)) {
          ++lost;
        }
        if (to_stderr) {
          WriteAll(STDERR_FILENO, line);
        }
      }
      lock.lock();
      dropped_ += lost;
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::string> queue_;
  std::thread thread_;
  UniqueFd file_;
  LogLevel level_ = LogLevel::kInfo;
  uint64_t dropped_ = 0;
  bool to_stderr_ = true;
  bool stopping_ = false;
  bool gathering_ = false;  // the thread waits a moment for more
  bool urgent_ = false;     // a warning or an error is in the queue
};

}  // namespace

absl::Status ConfigureDiagLog(const std::string& file, LogLevel level, bool to_stderr) {
  return Writer::Get().Configure(file, level, to_stderr);
}

uint64_t DiagLogDropped() { return Writer::Get().dropped(); }

void ShutdownDiagLog() { Writer::Get().Shutdown(); }

void DiagLog(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  std::string line = fmt::format("{} level={} msg=", FormatTimestamp(WallNow()), LevelName(level));
  AppendValue(line, message);
  for (const LogField& field : fields) {
    line += ' ';
    line += field.key;
    line += '=';
    AppendValue(line, field.value);
  }
  line += '\n';
  Writer::Get().Add(level, std::move(line));
}

}  // namespace supervisor
