#include "daemon/rpc/listener.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/close_aside.h"
#include "common/diag_log.h"
#include "common/errno_status.h"
#include "common/fail_point.h"
#include "common/refuse_rights.h"

namespace supervisor {
namespace {

constexpr int kBacklog = 1024;
constexpr int kAcceptsATurn = 64;
// Only for file systems whose changes inotify(7) does not tell.
constexpr absl::Duration kLookInterval = absl::Seconds(30);
// After a removal: whoever removes a whole directory is not done with the first of it, and would fail if it filled
// again.
constexpr absl::Duration kLookSoon = absl::Milliseconds(50);
constexpr absl::Duration kFirstRetry = absl::Milliseconds(200);
constexpr absl::Duration kPause = absl::Milliseconds(100);

}  // namespace

Listener::Listener(Loop& loop, Options options, std::function<void(UniqueFd)> on_connection)
    : loop_(loop),
      options_(std::move(options)),
      on_connection_(std::move(on_connection)),
      look_timer_(loop.NewTimer([this] { LookAfter(); })),
      resume_timer_(loop.NewTimer(
          [this] { watch_ = loop_.WatchFd(fd_.get(), Loop::Interest::kRead, [this](Loop::Ready) { Accept(); }); })) {}

Listener::~Listener() {
  struct stat info {};
  if (fd_ && lstat(options_.path.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_) {
    unlink(options_.path.c_str());
  }
  watch_.reset();
  CloseAside(std::move(fd_));  // with whoever has not been accepted yet
}

namespace {

// Whether somebody accepts connections there: our lock says that it is no daemon of ours.
bool IsServed(const sockaddr_un& address) {
  const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return probe && connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Listener>> Listener::Open(Loop& loop, const Options& options,
                                                         std::function<void(UniqueFd)> on_connection) {
  std::unique_ptr<Listener> listener(new Listener(loop, options, std::move(on_connection)));
  if (absl::Status status = listener->Bind(); !status.ok()) {
    return status;
  }
  listener->WatchDirectory();
  listener->look_timer_->ArmAfter(kLookInterval);
  return listener;
}

absl::Status Listener::Bind() {
  const std::string context = fmt::format("socket {}", options_.path);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (options_.path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} bytes are more than the {} that unix(7) allows; choose a shorter global.socket", context,
                    options_.path.size(), sizeof(address.sun_path) - 1));
  }
  options_.path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (IsServed(address)) {
    return absl::AlreadyExistsError(
        fmt::format("{}: another program listens there; choose another global.socket", context));
  }
  std::fill(std::begin(address.sun_path), std::end(address.sun_path), '\0');
  // The private directory's own path may be too long for an address; its descriptor's is not.
  const UniqueFd directory(open(options_.private_directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!directory || !fd) {
    return ErrnoToStatus(errno, context);
  }
  if (FailPoint(FailPointId::kSocketRights) == 0) {
    RefuseRights(fd.get());  // what is accepted inherits it
  }
  const std::string temporary = fmt::format("/proc/self/fd/{}/listening", directory.get());
  temporary.copy(address.sun_path, sizeof(address.sun_path) - 1);
  unlink(temporary.c_str());
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return ErrnoToStatus(errno, context);
  }
  struct stat info {};
  if ((options_.group != static_cast<gid_t>(-1) &&
       chown(temporary.c_str(), static_cast<uid_t>(-1), options_.group) != 0) ||
      chmod(temporary.c_str(), options_.mode) != 0 || listen(fd.get(), kBacklog) != 0 ||
      lstat(temporary.c_str(), &info) != 0 || rename(temporary.c_str(), options_.path.c_str()) != 0) {
    absl::Status status = ErrnoToStatus(errno, context);
    unlink(temporary.c_str());
    return status;
  }
  watch_.reset();
  CloseAside(std::exchange(fd_, std::move(fd)));
  device_ = info.st_dev;
  inode_ = info.st_ino;
  watch_ = loop_.WatchFd(fd_.get(), Loop::Interest::kRead, [this](Loop::Ready) { Accept(); });
  return watch_ != nullptr ? absl::OkStatus() : absl::ResourceExhaustedError(context + ": cannot be watched");
}

void Listener::Accept() {
  for (int i = 0; i < kAcceptsATurn; ++i) {
    UniqueFd connection(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection) {
      on_connection_(std::move(connection));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) {
      continue;
    }
    if (errno != EAGAIN) {
      // EMFILE and the like: the connection stays in the backlog, and an eager loop would spin on it.
      LogWarning("cannot accept a connection", {{"error", ErrnoText(errno)}});
      watch_.reset();
      resume_timer_->ArmAfter(kPause);
    }
    return;
  }
}

void Listener::WatchDirectory() {
  directory_fd_.Reset(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  const std::string directory = options_.path.substr(0, options_.path.rfind('/') + 1);
  if (!directory_fd_ ||
      inotify_add_watch(directory_fd_.get(), directory.c_str(),
                        IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF) < 0) {
    LogWarning("the socket's directory can't be watched", {{"directory", directory}, {"error", ErrnoText(errno)}});
    return;
  }
  directory_watch_ = loop_.WatchFd(directory_fd_.get(), Loop::Interest::kRead, [this](Loop::Ready) {
    char events[4096];
    while (read(directory_fd_.get(), events, sizeof(events)) > 0) {
    }
    OnDirectoryChanged();
  });
}

UniqueFd Listener::StopLookingAfter() {
  directory_watch_.reset();
  return std::move(directory_fd_);
}

bool Listener::IsMissing() const {
  struct stat info {};
  return (lstat(options_.path.c_str(), &info) != 0 && errno == ENOENT) || !options_.surroundings.are_whole();
}

void Listener::OnDirectoryChanged() {
  if (!looks_soon_ && IsMissing()) {
    looks_soon_ = true;
    look_timer_->ArmAfter(kLookSoon);
  }
}

void Listener::LookAfter() {
  looks_soon_ = false;
  if (!IsMissing()) {
    retry_delay_ = absl::ZeroDuration();
    look_timer_->ArmAfter(kLookInterval);
    return;
  }
  absl::Status status = options_.surroundings.are_whole() ? absl::OkStatus() : options_.surroundings.restore();
  struct stat info {};
  if (status.ok() && lstat(options_.path.c_str(), &info) != 0) {
    status = Bind();
  }
  if (!status.ok()) {
    looks_soon_ = true;
    retry_delay_ = std::clamp(retry_delay_ * 2, kFirstRetry, kLookInterval);
    look_timer_->ArmAfter(retry_delay_);
    LogError("somebody removed the socket, or what belongs to it, and it can't be made again: tried again later",
             {{"socket", options_.path},
              {"error", std::string(status.message())},
              {"retry_in", absl::FormatDuration(retry_delay_)}});
    return;
  }
  LogWarning("somebody removed the socket, or what belongs to it: made again", {{"socket", options_.path}});
  WatchDirectory();                  // it may be another directory of the same name
  look_timer_->ArmAfter(kLookSoon);  // and something may have gone before it was watched
}

}  // namespace supervisor
