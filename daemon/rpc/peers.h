#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace supervisor {

// Who is at the other end of a connection, as the kernel knows it (SO_PEERCRED, SO_PEERGROUPS: unix(7), socket(7)).
struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  std::string command;  // /proc/PID/comm at the time it connected
};

// Of an accepted connection.
absl::StatusOr<Peer> PeerOf(int connection);

// Connections by descriptor number. gRPC owns the descriptors; a call's peer is "fd:N". N is chosen by us and not used
// again for thousands of connections, so a late call cannot be taken for its successor's. Thread-safe.
class Peers {
 public:
  // Takes the connection of `peer` and moves it to a number of our choice, which is returned and belongs to the caller.
  absl::StatusOr<UniqueFd> Register(UniqueFd connection, Peer peer);
  // `peer` is what gRPC's ServerContext::peer() says.
  std::optional<Peer> Find(const std::string& peer) const;

  enum class Whom { kWhoDoesNotRead, kAll };
  // Ends the oldest connection on which nobody has asked anything yet, to have its descriptor back. False: there is
  // none.
  bool HangUpSilent();
  // Ends connections that gRPC still has open, as if the other end had. Who does not read has bytes waiting in his
  // socket at this moment (SIOCOUTQ: unix(7)).
  void HangUp(Whom whom);

 private:
  struct Connection {
    Peer peer;
    uint64_t cookie = 0;  // SO_COOKIE, socket(7): whether the number is still this connection's
    uint64_t order = 0;   // rises with each connection
    mutable bool has_called = false;
    bool hung_up = false;
  };
  mutable std::mutex mutex_;
  std::map<int, Connection> connections_;
  uint64_t last_order_ = 0;
  int next_ = 0;
};

// root, the daemon's own user and the members of `group` may act; others may only look.
bool IsAllowedToAct(const Peer& peer, std::optional<gid_t> group);
// Checks the same; PermissionDenied names those who may. Looks up the caller's user name for that, which may block.
absl::Status MayAct(const Peer& peer, std::optional<gid_t> group, const std::string& group_name);

// "uid 0 (root) pid 4711 (supervisorctl)". Looks up the user's name: may block.
std::string DescribePeer(const Peer& peer);

}  // namespace supervisor
