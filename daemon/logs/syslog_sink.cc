// ForwardSink: the system's log.

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "common/errno_status.h"
#include "common/unique_fd.h"
#include "daemon/logs/forward_sink.h"

namespace supervisor {
namespace {

constexpr size_t kLongestLine = 8000;  // with the head below the 8 KiB that rsyslog and journald take by default
constexpr int kPriority = LOG_DAEMON | LOG_INFO;

// "Nov  3 07:05:09", RFC 3164 4.1.2, local time.
std::string TimeText(int64_t time_ms) {
  const auto seconds = static_cast<time_t>(time_ms / 1000);
  tm local{};
  localtime_r(&seconds, &local);
  constexpr std::array<const char*, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{} {:2} {:02}:{:02}:{:02}", kMonths.at(static_cast<size_t>(local.tm_mon)), local.tm_mday,
                     local.tm_hour, local.tm_min, local.tm_sec);
}

// "worker:0" would end the tag at its colon: "worker/0", of which programs take "worker" for the program's name.
std::string TagOf(std::string name) {
  std::ranges::replace(name, ':', '/');
  return name;
}

class SyslogSink final : public ForwardSink {
 public:
  explicit SyslogSink(std::string path) : path_(std::move(path)) {}

  Result Send(const std::string& name, std::string_view line, int64_t time_ms) override {
    if (!socket_ && !Connect()) {
      return Result::kTrouble;
    }
    std::string text = fmt::format("<{}>{} {}: {}", kPriority, TimeText(time_ms), TagOf(name), line);
    if (type_ == SOCK_STREAM) {
      std::ranges::replace(text, '\0', ' ');
      text += '\0';  // as syslog(3) ends a message there
    }
    const ssize_t sent = send(socket_.get(), text.data() + at_, text.size() - at_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      at_ += static_cast<size_t>(sent);
      const bool whole = type_ != SOCK_STREAM || at_ >= text.size();
      at_ = whole ? 0 : at_;
      trouble_.clear();
      return whole ? Result::kSent : Result::kFull;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == EINTR) {
      return Result::kFull;
    }
    trouble_ = std::string(ErrnoToStatus(errno, path_).message());
    socket_.Reset();  // connected anew for the next try
    at_ = 0;
    return Result::kTrouble;
  }

  void Wait(int wake_fd, int timeout_ms) override {
    pollfd fds[] = {{.fd = socket_.get(), .events = POLLOUT, .revents = 0},
                    {.fd = wake_fd, .events = POLLIN, .revents = 0}};
    poll(fds, 2, timeout_ms);
  }

  bool IsWithinLine() const override { return false; }
  void EndLineFirst() override {}
  void Abandon() override {
    if (std::exchange(at_, 0) > 0) {
      socket_.Reset();  // the half of a message goes with its connection
    }
  }
  const std::string& trouble() const override { return trouble_; }
  size_t longest_line() const override { return kLongestLine; }

 private:
  bool Connect() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    int error = 0;
    for (const int type : {SOCK_DGRAM, SOCK_STREAM}) {
      UniqueFd made(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (made && connect(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
        socket_ = std::move(made);
        type_ = type;
        return true;
      }
      error = errno;
      if (error != EPROTOTYPE) {
        break;  // it is of the one type or the other
      }
    }
    trouble_ = std::string(ErrnoToStatus(error, path_).message());
    return false;
  }

  std::string path_;
  UniqueFd socket_;
  int type_ = SOCK_DGRAM;
  size_t at_ = 0;  // how much of a message a stream socket has taken
  std::string trouble_;
};

}  // namespace

std::unique_ptr<ForwardSink> MakeSyslogSink(const std::string& path) { return std::make_unique<SyslogSink>(path); }

}  // namespace supervisor
