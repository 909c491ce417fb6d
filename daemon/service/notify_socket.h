#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/unique_fd.h"
#include "daemon/loop/helper_calls.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// One datagram of the sd_notify(3) protocol: lines of NAME=value.
struct Notification {
  pid_t sender = 0;  // as the kernel reports it (SCM_CREDENTIALS, unix(7)): it may be gone by now
  uid_t sender_uid = 0;
  bool ready = false;
  bool stopping = false;
  bool reloading = false;
  bool alive = false;                      // WATCHDOG=1
  bool hung = false;                       // WATCHDOG=trigger
  std::string status;                      // STATUS=; empty: none
  pid_t main_pid = 0;                      // MAINPID=; 0: none
  std::optional<absl::Duration> watchdog;  // WATCHDOG_USEC=; zero switches it off
  absl::Duration extend;                   // EXTEND_TIMEOUT_USEC=; zero: none
};
// Lines that are not known, or whose value makes no sense, count as not said.
Notification ParseNotification(std::string_view text);

// The value of WATCHDOG_USEC and the like: microseconds, a plain decimal number of at most a century.
std::optional<absl::Duration> ParseMicroseconds(std::string_view text);

// The socket that NOTIFY_SOCKET of one instance names. Loop thread.
//
// A sender can send descriptors along (SCM_RIGHTS, unix(7)): the last close of one may wait for as long as its maker
// likes (a TCP socket with SO_LINGER, a file of a FUSE), in whichever thread receives the datagram, wants it or not, or
// closes the socket in whose queue it lies. So the kernel is told to refuse them (SO_PASSRIGHTS, Linux 6.16). Where it
// cannot, each datagram is looked at in place first, and one that has descriptors with it is received on a thread of
// the socket's own, while which nothing else is heard from that service.
//
// Whoever floods the socket is made to wait: a full turn is followed by a pause, the longer the longer it lasts.
class NotifySocket {
 public:
  static absl::StatusOr<std::unique_ptr<NotifySocket>> Open(Loop& loop, const std::string& path, uid_t owner,
                                                            std::function<void(const Notification&)> callback);
  // One that an earlier daemon has opened, with what was said meanwhile.
  static std::unique_ptr<NotifySocket> Resume(Loop& loop, const std::string& path, UniqueFd fd,
                                              std::function<void(const Notification&)> callback);
  ~NotifySocket();
  NotifySocket(const NotifySocket&) = delete;
  NotifySocket& operator=(const NotifySocket&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_->get(); }
  // Takes in what has been sent so far, without waiting for the loop to tell of it.
  void Receive();
  // Its name is another socket's from now on; who is connected to it is heard on.
  void GiveUpName() { path_.clear(); }

 private:
  NotifySocket(Loop& loop, std::string path, UniqueFd fd, std::function<void(const Notification&)> callback);
  void Watch();
  void Pause();
  void ReceiveAside();

  Loop& loop_;
  std::string path_;
  std::shared_ptr<UniqueFd> fd_;  // with the thread that receives or closes, too
  bool refuses_rights_ = false;   // nothing in its queue has descriptors with it, ever
  std::function<void(const Notification&)> callback_;
  std::unique_ptr<Loop::Watch> watch_;  // null while it pauses, and while a thread receives
  std::unique_ptr<Loop::Timer> resume_timer_;
  absl::Duration pause_;
  std::unique_ptr<HelperCalls> aside_;  // made when first needed
  bool is_aside_ = false;               // a thread receives
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace supervisor
