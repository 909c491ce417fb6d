#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// One datagram of the sd_notify(3) protocol: lines of NAME=value.
struct Notification {
  pid_t sender = 0;  // as the kernel reports it (SCM_CREDENTIALS)
  bool ready = false;
  bool stopping = false;
  std::string status;  // STATUS=; empty: none
};
Notification ParseNotification(std::string_view text);

// The socket that NOTIFY_SOCKET of one instance names. Loop thread.
class NotifySocket {
 public:
  static absl::StatusOr<std::unique_ptr<NotifySocket>> Open(Loop& loop, const std::string& path, uid_t owner,
                                                            std::function<void(const Notification&)> callback);
  ~NotifySocket();
  NotifySocket(const NotifySocket&) = delete;
  NotifySocket& operator=(const NotifySocket&) = delete;

  const std::string& path() const { return path_; }

 private:
  NotifySocket(std::string path, UniqueFd fd, std::function<void(const Notification&)> callback);
  void Receive();

  std::string path_;
  UniqueFd fd_;
  std::function<void(const Notification&)> callback_;
  std::unique_ptr<Loop::Watch> watch_;
};

}  // namespace supervisor
