#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/config/config.h"
#include "daemon/process/process_tree.h"
#include "daemon/process/spawn.h"

namespace supervisor {

struct SocketAddress;  // daemon/health/resolver.h

// The outcome of one check.
struct CheckResult {
  bool success = false;
  double response_time_ms = 0;
  std::string message;     // "HTTP 200 in 3 ms", "HTTP 503 (expected 200)", "connection refused (127.0.0.1:8080)"
  absl::Time finished;     // wall clock
  bool timed_out = false;  // it failed because config.timeout had passed
};

// As whom a script runs, as its service does.
struct RunAs {
  std::optional<SpawnRequest::Credentials> credentials;  // none: the daemon's own
  mode_t umask = 022;
  bool no_new_privileges = false;
  // The service's own, for check.environment "service"; none: not asked for.
  std::optional<std::vector<std::pair<std::string, std::string>>> environment = std::nullopt;
};

// What a check needs to know of the running service.
struct CheckTarget {
  std::string id;  // of the instance; in messages and in the script's environment (SERVICE_ID)
  pid_t pid = 0;   // main process
  std::string working_directory;
  std::shared_ptr<const RunAs> run_as = nullptr;  // scripts; null: as this process itself, its umask included
  ProcessTreeView tree = {};                      // its processes; empty: the main process and its descendants
};

// Runs single checks, on one thread of its own that begins with the first of them. HTTP goes through libcurl (loaded
// when first needed) and TCP through plain sockets, with a total deadline, names included, and capped bodies; process
// reads /proc; script runs a child and kills its whole tree when it ends or times out. None waits for another.
// Scheduling (when, how often, no overlap) is the caller's.
class Checker {
 public:
  // `lookup`: where names are looked up, for tests: the addresses of a host; it may block.
  struct Options {
    std::function<absl::StatusOr<std::vector<SocketAddress>>(const std::string& host)> lookup;  // null: getaddrinfo(3)
    absl::Duration last_closes;  // how long the end waits for connections that are being closed in order
  };

  Checker();
  explicit Checker(Options options);
  // Cancels what is under way; no callback afterwards. Within a second all scripts are dead, whatever hangs. Not from
  // within a callback.
  ~Checker();
  Checker(const Checker&) = delete;
  Checker& operator=(const Checker&) = delete;

  // Any thread; returns at once. `done` is called exactly once, on a thread of the checker's, at the latest shortly
  // after config.timeout (a script's begins when its turn has come, see StartGate), unless the check is cancelled first
  // (only when the machine refuses the checker its thread is it called by Start itself). It must not block: other
  // checks wait for it. Returns a handle for Cancel.
  uint64_t Start(const HealthCheckConfig& config, const CheckTarget& target, std::function<void(CheckResult)> done);

  // Any thread. `done` of this check is not called after Cancel has returned, or is being called right now by another
  // thread: the caller tells stale results apart by its own generation counter.
  void Cancel(uint64_t check);

  // How checks of type grpc are made: given by who links gRPC (rpc/), so that no wire type comes in here. One request
  // to one address, in gRPC's notation ("ipv4:127.0.0.1:50051", "unix:/run/a.sock"); names are looked up before, as for
  // the other checks, and `authority` has the name that was configured. Called on the checker's thread, and must not
  // block. `done` may be called from any thread and at any time, also before the probe returns; only its first call
  // within the timeout counts. The function that is returned ends the request: it is called exactly once, on the
  // checker's thread, also after `done`, and must not block either.
  struct GrpcRequest {
    std::string address;
    std::string authority;
    std::string service;  // empty: the server as a whole
  };
  struct GrpcAnswer {
    bool success = false;
    bool connected = true;  // false: nobody was reached there, so another address may be tried
    std::string message;    // "NOT_SERVING", "connection refused"
  };
  using GrpcProbe =
      std::function<std::function<void()>(const GrpcRequest& request, std::function<void(GrpcAnswer)> done)>;
  // Any thread; for checks that start afterwards. Without one they fail and say so.
  void SetGrpcProbe(GrpcProbe probe);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace supervisor
