#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/loop/helper_pool.h"

namespace supervisor {

// An IPv4 or IPv6 address; the port is added with WithPort.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  SocketAddress WithPort(uint16_t port) const;
  std::string Host() const;      // "127.0.0.1", "[::1]"
  std::string ToString() const;  // "127.0.0.1:8080", "[::1]:8080"
};

using AddressList = std::vector<SocketAddress>;

// Names to addresses without ever blocking the loop. Neither libcurl nor getaddrinfo can be told to give up: a lookup
// that hangs keeps one helper thread and its waiters, nobody else. One lookup a name is under way at a time, shared by
// all who ask; nothing is cached, since a health check wants the truth of now. Addresses and localhost need no lookup.
//
// Loop thread.
class Resolver {
 public:
  // Runs on a helper thread and may block.
  using Lookup = std::function<absl::StatusOr<AddressList>(const std::string& host)>;
  // Not empty when OK.
  using Done = std::function<void(absl::StatusOr<AddressList>)>;

  Resolver(std::shared_ptr<LoopMailbox> mailbox, Lookup lookup);
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // Calls `done` on a later turn, unless the query is destroyed before.
  class Query;
  std::shared_ptr<Query> Resolve(const std::string& host, Done done);

 private:
  struct State;
  void StartLookup(const std::string& host);
  HelperPool pool_;
  std::shared_ptr<LoopMailbox> mailbox_;
  std::shared_ptr<State> state_;
};

// getaddrinfo(3).
absl::StatusOr<AddressList> LookUpHost(const std::string& host);

// The addresses of a literal ("127.0.0.1", "::1", "[::1]") or of localhost; nothing for any other name.
std::optional<AddressList> AddressesWithoutLookup(const std::string& host);

}  // namespace supervisor
