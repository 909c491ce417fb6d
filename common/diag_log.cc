#include "common/diag_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "common/careful_path.h"
#include "common/clock.h"
#include "common/errno_status.h"
#include "common/file_access.h"
#include "common/file_id.h"
#include "common/rotated_files.h"
#include "common/standard_stream.h"
#include "common/time_format.h"
#include "common/unique_fd.h"

namespace supervisor {
namespace {

constexpr size_t kMaxQueued = 4096;
constexpr std::chrono::milliseconds kGather(2);
constexpr int kPatienceMs = 1000;
// For what is queued in the end. A disk that hangs may take for ever, and so may a terminal that was stopped.
constexpr std::chrono::seconds kLastLines(3);

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

// Bytes of a value that a terminal obeys when the log is its standard error: C0, DEL, and C1 in UTF-8, which is C2 and
// one of 80 to 9F.
size_t ControlLength(std::string_view value) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(value[i]); };
  if (byte(0) < 0x20 || byte(0) == 0x7F) {
    return 1;
  }
  return byte(0) == 0xC2 && value.size() > 1 && byte(1) >= 0x80 && byte(1) < 0xA0 ? 2 : 0;
}

bool IsPlain(std::string_view value) {
  if (value.empty() || value.find_first_of(" \"=\\") != std::string_view::npos) {
    return false;
  }
  for (size_t i = 0; i < value.size(); ++i) {
    if (ControlLength(value.substr(i)) > 0) {
      return false;
    }
  }
  return true;
}

void AppendValue(std::string& line, std::string_view value) {
  if (IsPlain(value)) {
    line += value;
    return;
  }
  line += '"';
  for (size_t i = 0; i < value.size(); ++i) {
    const char c = value[i];
    if (const size_t length = ControlLength(value.substr(i)); length > 0) {
      i += length - 1;
      line += fmt::format("\\x{:02x}", static_cast<unsigned char>(value[i]));  // U+009B ends with the byte 9B
    } else if (c == '"' || c == '\\') {
      line += '\\';
      line += c;
    } else {
      line += c;
    }
  }
  line += '"';
}

// sd-daemon(3): what the journal takes for the priority of a line, from syslog(3).
int JournalPriority(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return 7;
    case LogLevel::kInfo:
      return 6;
    case LogLevel::kWarning:
      return 4;
    case LogLevel::kError:
      return 3;
  }
  return 3;
}

// systemd.exec(5): "DEVICE:INODE" of the stream that it connected with the journal; stderr may have been redirected
// since.
bool StderrIsJournal() {
  const char* stream = std::getenv("JOURNAL_STREAM");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  struct stat status {};
  return stream != nullptr && fstat(STDERR_FILENO, &status) == 0 &&
         stream == fmt::format("{}:{}", status.st_dev, status.st_ino);
}

struct Entry {
  LogLevel level;
  std::string time;
  std::string text;  // with its newline
};

// Where the other end may have stopped reading: a pipe, a terminal, the journal. It is waited for once, and not again
// before it has read. The descriptor may be shared with others, so it is not made non-blocking: what poll(2) says is
// enough for PIPE_BUF bytes (pipe(7)).
class Outlet {
 public:
  enum class Result { kWritten, kFailed, kNotTaken };

  Result Write(int fd, std::string_view data) {
    if (std::exchange(cut_, false)) {
      const Result ended = WriteAll(fd, "\n");  // of the line whose rest was not taken
      cut_ = ended == Result::kNotTaken;
      if (ended != Result::kWritten) {
        return ended;
      }
    }
    return WriteAll(fd, data);
  }

 private:
  Result WriteAll(int fd, std::string_view data) {
    for (bool first = true; !data.empty(); first = false) {
      pollfd poll_fd{.fd = fd, .events = POLLOUT, .revents = 0};
      const int ready = poll(&poll_fd, 1, is_stuck_ ? 0 : kPatienceMs);
      if (ready < 0 && errno == EINTR) {
        continue;
      }
      is_stuck_ = ready == 0;
      const ssize_t written = is_stuck_ ? 0 : write(fd, data.data(), std::min<size_t>(data.size(), PIPE_BUF));
      if (written < 0 && errno == EINTR) {
        continue;
      }
      if (written < 0 && errno != EAGAIN) {
        return Result::kFailed;
      }
      if (written <= 0) {
        is_stuck_ = true;
        cut_ = cut_ || !first;
        return Result::kNotTaken;
      }
      data.remove_prefix(static_cast<size_t>(written));
    }
    return Result::kWritten;
  }

  bool is_stuck_ = false;
  bool cut_ = false;  // in the midst of a line
};

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

// The file: opened, rotated, and made anew where it went. The writer's thread, and whoever configures.
class DiagFile {
 public:
  static absl::StatusOr<DiagFile> Open(const std::string& path, const DiagLogRotation& rotation) {
    DiagFile file;
    const size_t slash = path.rfind('/');
    file.directory_ = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    file.base_ = slash == std::string::npos ? path : path.substr(slash + 1);
    file.path_ = path;
    file.stream_ = StandardStream(path);
    file.rotation_ = rotation;
    if (!file.Reopen()) {
      const int error = errno;
      return ErrnoToStatus(error, fmt::format("log_file {}{}", path, error == ENXIO ? ": nobody reads it" : ""));
    }
    return file;
  }

  bool Write(std::string_view line) {
    if (const MonoTime now = MonotonicNow(); now - checked_at_ >= absl::Seconds(1)) {
      checked_at_ = now;
      const auto named = stream_ ? std::nullopt : FactsAt(AT_FDCWD, path_);
      if (!fd_ || (!stream_ && (!named || !(named->id == id_)))) {
        Reopen();
      }
    }
    if (regular_ && size_ > 0 && size_ + line.size() > rotation_.max_bytes) {
      Rotate();
    }
    if (!fd_ || !(regular_ ? WriteAll(fd_.get(), line) : outlet_.Write(fd_.get(), line) == Outlet::Result::kWritten)) {
      return false;
    }
    size_ += line.size();
    return true;
  }

 private:
  DiagFile() = default;

  // Does not wait for the reader of a FIFO.
  bool Reopen() {
    if (stream_) {
      // The open file itself: to open its name fails for a socket, and for what another uid has opened.
      fd_.Reset(fcntl(*stream_, F_DUPFD_CLOEXEC, 3));
      return fd_.valid();
    }
    constexpr int kFlags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK;
    UniqueFd fd(open(path_.c_str(), kFlags));
    if (!fd && errno == ENOENT) {
      // As the one before it had it: a log shipper keeps its access.
      const auto before = fd_ && regular_ ? AccessOf(fd_.get()) : std::nullopt;
      fd.Reset(open(path_.c_str(), kFlags | O_CREAT, 0640));
      if (fd && before) {
        GiveAccess(fd.get(), *before);
      }
    }
    const auto facts = fd ? FactsOf(fd.get()) : std::nullopt;
    if (!facts) {
      return false;
    }
    fd_ = std::move(fd);
    id_ = facts->id;
    size_ = facts->size;
    regular_ = facts->regular;
    return true;
  }

  // Where it fails the present file grows on; tried again when as much has come once more.
  void Rotate() {
    const absl::StatusOr<UniqueFd> directory = OpenDirectoryCarefully(directory_);
    if (directory.ok() && !std::exchange(ledger_loaded_, true)) {
      ledger_.Load(directory->get(), base_);
    }
    const bool shifted =
        directory.ok() && ShiftRotatedFiles(directory->get(), directory_, base_, rotation_.max_files, ledger_).ok();
    if (!shifted || !Reopen()) {
      size_ = 0;
    }
  }

  std::string path_;
  std::string directory_;
  std::string base_;
  DiagLogRotation rotation_;
  RotationLedger ledger_;
  bool ledger_loaded_ = false;
  std::optional<int> stream_;  // where it is one of the program's own
  UniqueFd fd_;
  Outlet outlet_;  // where it is no regular file
  FileId id_;
  uint64_t size_ = 0;
  bool regular_ = false;  // /dev/null is not to be renamed
  MonoTime checked_at_ = -absl::InfiniteDuration();
};

// A thread of its own writes, so that a disk that hangs holds up nobody who logs.
class Writer {
 public:
  Writer() = default;
  ~Writer() = delete;  // its thread may be left behind, see Shutdown()
  static Writer& Get() {
    static Writer& writer = *new Writer();
    return writer;
  }

  absl::Status Configure(const std::string& path, LogLevel level, bool to_stderr, const DiagLogRotation& rotation) {
    std::shared_ptr<DiagFile> file;
    if (!path.empty()) {
      absl::StatusOr<DiagFile> opened = DiagFile::Open(path, rotation);
      if (!opened.ok()) {
        return opened.status();
      }
      file = std::make_shared<DiagFile>(*std::move(opened));
    }
    const std::lock_guard lock(mutex_);
    file_ = std::move(file);
    level_ = level;
    to_stderr_ = to_stderr;
    if (!thread_.joinable()) {
      stopping_ = false;
      is_running_ = true;
      thread_ = std::thread([this] { Run(); });
    }
    return absl::OkStatus();
  }

  void Add(Entry entry) {
    std::unique_lock lock(mutex_);
    if (entry.level < level_) {
      return;
    }
    if (!thread_.joinable()) {
      dropped_ += WriteToStderr(entry) ? 0 : 1;
      return;
    }
    if (queue_.size() >= kMaxQueued) {
      ++dropped_;
      return;
    }
    urgent_ = urgent_ || entry.level >= LogLevel::kWarning;
    queue_.push_back(std::move(entry));
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

  // What cannot be written in time is left, and the thread that tries with it.
  void Shutdown() {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    if (!thread_.joinable()) {
      return;
    }
    wake_.notify_one();
    ended_.wait_for(lock, kLastLines, [this] { return !is_running_; });
    const bool has_ended = !is_running_;
    std::thread thread = std::move(thread_);
    lock.unlock();
    if (has_ended) {
      thread.join();
    } else {
      thread.detach();  // style-ok(detach): it hangs in a write, and must not keep the process from its end
    }
  }

  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

 private:
  // False: nobody takes it. That a terminal was closed is no loss.
  bool WriteToStderr(const Entry& entry) {
    return stderr_.Write(STDERR_FILENO, to_journal_ ? fmt::format("<{}>{}", JournalPriority(entry.level), entry.text)
                                                    : entry.time + " " + entry.text) != Outlet::Result::kNotTaken;
  }

  void Run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) {
        is_running_ = false;
        ended_.notify_all();
        return;
      }
      // Hundreds of services that end at once have as many lines to tell: what comes right after the first goes with
      // it, so that each costs those who tell it no wake-up.
      gathering_ = true;
      wake_.wait_for(lock, kGather, [this] { return stopping_ || urgent_; });
      gathering_ = false;
      urgent_ = false;
      std::deque<Entry> batch;
      batch.swap(queue_);
      const bool to_stderr = to_stderr_;
      const std::shared_ptr<DiagFile> file = file_;
      lock.unlock();
      uint64_t lost = 0;
      for (const Entry& entry : batch) {
        const bool in_file = file == nullptr || file->Write(entry.time + " " + entry.text);
        const bool told = !to_stderr || WriteToStderr(entry);
        lost += in_file && told ? 0 : 1;
      }
      lock.lock();
      dropped_ += lost;
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable ended_;
  std::deque<Entry> queue_;
  std::thread thread_;
  std::shared_ptr<DiagFile> file_;
  const bool to_journal_ = StderrIsJournal();
  Outlet stderr_;  // of the thread, while there is one
  LogLevel level_ = LogLevel::kInfo;
  uint64_t dropped_ = 0;
  bool to_stderr_ = true;
  bool stopping_ = false;
  bool is_running_ = false;  // the thread
  bool gathering_ = false;   // the thread waits a moment for more
  bool urgent_ = false;      // a warning or an error is in the queue
};

}  // namespace

absl::Status ConfigureDiagLog(const std::string& file, LogLevel level, bool to_stderr,
                              const DiagLogRotation& rotation) {
  if (const std::optional<int> stream = StandardStream(file)) {
    // Each line once: what collects one of the two collects the other.
    return *stream == STDERR_FILENO ? Writer::Get().Configure("", level, true, rotation)
                                    : Writer::Get().Configure(file, level, false, rotation);
  }
  return Writer::Get().Configure(file, level, to_stderr, rotation);
}

uint64_t DiagLogDropped() { return Writer::Get().dropped(); }

void ShutdownDiagLog() { Writer::Get().Shutdown(); }

void DiagLog(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  std::string line = fmt::format("level={} msg=", LevelName(level));
  AppendValue(line, message);
  for (const LogField& field : fields) {
    line += ' ';
    line += field.key;
    line += '=';
    AppendValue(line, field.value);
  }
  line += '\n';
  Writer::Get().Add({level, FormatTimestamp(WallNow()), std::move(line)});
}

}  // namespace supervisor
