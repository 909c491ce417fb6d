#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"
#include "daemon/loop/worker.h"
#include "daemon/notify/notifier.h"
#include "daemon/rpc/listener.h"
#include "daemon/service/event_hub.h"
#include "daemon/service/reloader.h"
#include "daemon/service/supervisor.h"

namespace supervisor {

// The control interface: gRPC on the Unix socket. Handlers run on gRPC's threads and post to the loop.
struct RpcContext {
  Loop& loop;
  Supervisor& supervisor;
  Reloader& reloader;
  Store& store;
  EventHub& events;
  LogPump& logs;
  Notifier& notifier;
  std::optional<gid_t> socket_group;
  std::string socket_group_name;
  std::string config_file;
  std::string database;
  Listener::Surroundings surroundings;
  pid_t guardian_pid = 0;
  absl::Time daemon_started;
  // Stops everything, then ends the daemon; `done` when the services are gone. Loop thread.
  std::function<void(const Cause&, ActionsDone done)> shutdown;
  // Tries the program in this one's place, then ends for it to take over; `done` before that, or with why not. Loop
  // thread.
  std::function<void(const Cause&, std::function<void(absl::Status)> done)> upgrade;
};

class RpcServer {
 public:
  virtual ~RpcServer() = default;
  // Loop thread. The end is near: see Listener::StopLookingAfter.
  virtual UniqueFd PrepareShutdown() = 0;
  // Loop thread, once. Streams are ended, and answers under way are sent for at most a second; who does not read is not
  // waited for. `closed` comes on a later turn, when every call has been answered: until then the loop has to run. This
  // may be destroyed then if IsClosed(). Else gRPC has not come to its end within seconds (a thread that it needs could
  // not be made), and its threads may still use this.
  virtual void Shutdown(std::function<void()> closed) = 0;
  virtual bool IsClosed() const = 0;

  // Loop thread. `private_directory` is where the socket is made before it is put in its place.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(const RpcContext& context, const std::string& socket,
                                                          mode_t mode, const std::string& private_directory);
};

}  // namespace supervisor
