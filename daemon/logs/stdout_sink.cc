// ForwardSink: this process's standard output.

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

#include "common/errno_status.h"
#include "common/unique_fd.h"
#include "daemon/logs/forward_sink.h"

namespace supervisor {
namespace {

constexpr size_t kLongestLine = 64u << 10;

enum class Kind {
  kFile,     // a write never waits for a reader
  kSocket,   // MSG_DONTWAIT
  kPrivate,  // a non-blocking description of our own
  kShared,   // others' too, and blocking: poll(2) tells that PIPE_BUF bytes fit (pipe(7))
};

class StdoutSink final : public ForwardSink {
 public:
  StdoutSink(UniqueFd fd, Kind kind) : fd_(std::move(fd)), kind_(kind) {}

  Result Send(const std::string& name, std::string_view line, int64_t time_ms) override {
    static_cast<void>(time_ms);
    if (out_.empty()) {
      out_ = fmt::format("{}{} | {}\n", std::exchange(end_line_first_, false) ? "\n" : "", name, line);
      at_ = 0;
    }
    while (at_ < out_.size()) {
      const ssize_t n = Write(std::string_view(out_).substr(at_));
      if (n > 0) {
        at_ += static_cast<size_t>(n);
      } else if (n < 0 && errno != EINTR) {
        const bool full = errno == EAGAIN || errno == EWOULDBLOCK;
        trouble_ = full ? "" : std::string(ErrnoToStatus(errno, "standard output").message());
        return full ? Result::kFull : Result::kTrouble;
      }
    }
    out_.clear();
    trouble_.clear();
    return Result::kSent;
  }

  void Wait(int wake_fd, int timeout_ms) override {
    pollfd fds[] = {{.fd = fd_.get(), .events = POLLOUT, .revents = 0},
                    {.fd = wake_fd, .events = POLLIN, .revents = 0}};
    poll(fds, 2, timeout_ms);
  }

  bool IsWithinLine() const override { return at_ > 0 && at_ < out_.size(); }
  void EndLineFirst() override { end_line_first_ = true; }
  void Abandon() override {
    end_line_first_ = end_line_first_ || IsWithinLine();
    out_.clear();
    at_ = 0;
  }
  const std::string& trouble() const override { return trouble_; }
  size_t longest_line() const override { return kLongestLine; }

 private:
  ssize_t Write(std::string_view data) const {
    switch (kind_) {
      case Kind::kFile:
      case Kind::kPrivate:
        return write(fd_.get(), data.data(), data.size());
      case Kind::kSocket:
        return send(fd_.get(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      case Kind::kShared: {
        pollfd ready{.fd = fd_.get(), .events = POLLOUT, .revents = 0};
        if (poll(&ready, 1, 0) == 0) {
          errno = EAGAIN;
          return -1;
        }
        return write(fd_.get(), data.data(), std::min<size_t>(data.size(), PIPE_BUF));
      }
    }
    return -1;
  }

  UniqueFd fd_;
  Kind kind_;
  std::string out_;  // the line under way
  size_t at_ = 0;    // how much of it was taken
  bool end_line_first_ = false;
  std::string trouble_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ForwardSink>> MakeStdoutSink(int fd) {
  struct stat status {};
  if (fstat(fd, &status) != 0) {
    return ErrnoToStatus(errno, "standard output");
  }
  if (S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3)) {
    return absl::FailedPreconditionError("standard output is /dev/null, as it is with --daemon");
  }
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy) {
    return ErrnoToStatus(errno, "standard output");
  }
  if (S_ISREG(status.st_mode)) {
    return std::make_unique<StdoutSink>(std::move(copy), Kind::kFile);
  }
  if (S_ISSOCK(status.st_mode)) {
    return std::make_unique<StdoutSink>(std::move(copy), Kind::kSocket);
  }
  UniqueFd own(open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (own) {
    return std::make_unique<StdoutSink>(std::move(own), Kind::kPrivate);
  }
  return std::make_unique<StdoutSink>(std::move(copy), Kind::kShared);
}

}  // namespace supervisor
