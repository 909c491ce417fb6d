#include "daemon/health/resolver.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <strings.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <utility>

#include "daemon/health/text.h"

namespace supervisor {
namespace {

// Hung lookups of this many different names are survived before others have to wait. Each costs a thread that sleeps,
// some 40 KiB, and only while it hangs.
constexpr size_t kLookupThreads = 1024;

SocketAddress FromV4(const in_addr& address) {
  SocketAddress result;
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_addr = address;
  std::memcpy(&result.storage, &v4, sizeof v4);
  result.length = sizeof v4;
  return result;
}

SocketAddress FromV6(const in6_addr& address) {
  SocketAddress result;
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_addr = address;
  std::memcpy(&result.storage, &v6, sizeof v6);
  result.length = sizeof v6;
  return result;
}

bool IsLocalhost(const std::string& host) {
  constexpr const char* kSuffix = ".localhost";
  const size_t suffix = std::strlen(kSuffix);
  return strcasecmp(host.c_str(), "localhost") == 0 ||
         (host.size() > suffix && strcasecmp(host.c_str() + host.size() - suffix, kSuffix) == 0);
}

uint16_t PortOf(const sockaddr_storage& storage) {
  if (storage.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &storage, sizeof v4);
    return ntohs(v4.sin_port);
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, &storage, sizeof v6);
  return ntohs(v6.sin6_port);
}

}  // namespace

SocketAddress SocketAddress::WithPort(uint16_t port) const {
  SocketAddress result = *this;
  const in_port_t network_order = htons(port);
  // sin_port and sin6_port lie at the same place, right after the family (RFC 3493's layout on Linux).
  static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
  auto* bytes = reinterpret_cast<char*>(&result.storage);
  std::memcpy(bytes + offsetof(sockaddr_in, sin_port), &network_order, sizeof network_order);
  return result;
}

std::string SocketAddress::Host() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (storage.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &storage, sizeof v4);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    return text;
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, &storage, sizeof v6);
  inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
  return fmt::format("[{}]", text);
}

std::string SocketAddress::ToString() const { return fmt::format("{}:{}", Host(), PortOf(storage)); }

absl::StatusOr<AddressList> LookUpHost(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (code != 0) {
    const std::string reason = code == EAI_SYSTEM ? ErrnoPhrase(errno) : std::string(gai_strerror(code));
    return absl::UnavailableError(fmt::format("cannot resolve {}: {}", host, reason));
  }
  AddressList addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    if ((entry->ai_family == AF_INET || entry->ai_family == AF_INET6) &&
        entry->ai_addrlen <= sizeof(sockaddr_storage)) {
      SocketAddress address;
      std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
      address.length = entry->ai_addrlen;
      addresses.push_back(address);
    }
  }
  freeaddrinfo(found);
  return addresses;
}

std::optional<AddressList> AddressesWithoutLookup(const std::string& host) {
  if (IsLocalhost(host)) {
    return AddressList{FromV4({htonl(INADDR_LOOPBACK)}), FromV6(in6addr_loopback)};
  }
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    return AddressList{FromV4(v4)};
  }
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  const std::string bare = bracketed ? host.substr(1, host.size() - 2) : host;
  in6_addr v6{};
  if (inet_pton(AF_INET6, bare.c_str(), &v6) == 1) {
    return AddressList{FromV6(v6)};
  }
  return std::nullopt;
}

class Resolver::Query {
 public:
  explicit Query(Done done) : done_(std::move(done)) {}
  void Deliver(const absl::StatusOr<AddressList>& result) {
    // Moved out first: it may well destroy this query.
    const Done done = std::move(done_);
    if (done) {
      done(result);
    }
  }

 private:
  Done done_;
};

struct Resolver::State {
  Lookup lookup;
  std::map<std::string, std::vector<std::weak_ptr<Query>>> under_way;  // by name

  void Finish(const std::string& host, absl::StatusOr<AddressList> result) {
    if (result.ok() && result->empty()) {
      result = absl::UnavailableError(fmt::format("cannot resolve {}: it has no address", host));
    }
    const auto node = under_way.extract(host);
    if (node.empty()) {
      return;
    }
    for (const std::weak_ptr<Query>& waiter : node.mapped()) {
      if (const std::shared_ptr<Query> query = waiter.lock()) {
        query->Deliver(result);
      }
    }
  }
};

Resolver::Resolver(std::shared_ptr<LoopMailbox> mailbox, Lookup lookup)
    : pool_(kLookupThreads), mailbox_(std::move(mailbox)), state_(std::make_shared<State>()) {
  state_->lookup = std::move(lookup);
}

Resolver::~Resolver() = default;

std::shared_ptr<Resolver::Query> Resolver::Resolve(const std::string& host, Done done) {
  auto query = std::make_shared<Query>(std::move(done));
  if (const std::optional<AddressList> known = AddressesWithoutLookup(host)) {
    mailbox_->Post([weak = std::weak_ptr<Query>(query), addresses = *known] {
      if (const std::shared_ptr<Query> waiting = weak.lock()) {
        waiting->Deliver(addresses);
      }
    });
    return query;
  }
  const bool under_way = state_->under_way.contains(host);
  std::vector<std::weak_ptr<Query>>& waiters = state_->under_way[host];
  std::erase_if(waiters, [](const std::weak_ptr<Query>& waiter) { return waiter.expired(); });
  waiters.push_back(query);
  if (!under_way) {
    StartLookup(host);
  }
  return query;
}

void Resolver::StartLookup(const std::string& host) {
  // The job keeps the lookup function alive, not the state, which is the loop thread's alone.
  const auto deliver = [mailbox = mailbox_, weak = std::weak_ptr<State>(state_),
                        host](const absl::StatusOr<AddressList>& result) {
    mailbox->Post([weak, host, result] {
      if (const std::shared_ptr<State> state = weak.lock()) {
        state->Finish(host, result);
      }
    });
  };
  const bool runs = pool_.Run(state_, [lookup = state_->lookup, host, deliver] { deliver(lookup(host)); });
  if (!runs) {
    deliver(absl::ResourceExhaustedError(fmt::format("cannot resolve {}: no thread for it can be made", host)));
  }
}

}  // namespace supervisor
