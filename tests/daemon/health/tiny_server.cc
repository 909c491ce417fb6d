#include "tests/daemon/health/tiny_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <utility>

namespace supervisor {
namespace {

constexpr int kBacklog = 4096;

UniqueFd ListenOn(const sockaddr* address, socklen_t length) {
  UniqueFd fd(socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd || bind(fd.get(), address, length) != 0 || listen(fd.get(), kBacklog) != 0) {
    return UniqueFd();
  }
  return fd;
}

UniqueFd ListenOn(TinyServer::Kind kind, const std::string& path) {
  switch (kind) {
    case TinyServer::Kind::kIpv4: {
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      return ListenOn(reinterpret_cast<const sockaddr*>(&address), sizeof address);
    }
    case TinyServer::Kind::kIpv6: {
      sockaddr_in6 address{};
      address.sin6_family = AF_INET6;
      address.sin6_addr = in6addr_loopback;
      return ListenOn(reinterpret_cast<const sockaddr*>(&address), sizeof address);
    }
    case TinyServer::Kind::kUnix: {
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
      return ListenOn(reinterpret_cast<const sockaddr*>(&address), sizeof address);
    }
  }
  return UniqueFd();
}

uint16_t PortOf(int fd) {
  sockaddr_in6 address{};  // large enough for both; the port lies at the same place
  socklen_t length = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.sin6_port);
}

}  // namespace

std::string TinyServer::Peer::ReadRequest() const {
  std::string request;
  char chunk[4096];
  while (request.find("\r\n\r\n") == std::string::npos) {
    const ssize_t count = recv(fd_, chunk, sizeof chunk, 0);
    if (count <= 0) {
      return "";
    }
    request.append(chunk, static_cast<size_t>(count));
  }
  return request;
}

bool TinyServer::Peer::Send(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t count = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0 || stopping_) {
      return false;
    }
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

void TinyServer::Peer::WaitUntilClosed() const {
  char chunk[4096];
  while (recv(fd_, chunk, sizeof chunk, 0) > 0) {
  }
}

void TinyServer::Peer::Reset() const {
  sockaddr unspecified{};
  unspecified.sa_family = AF_UNSPEC;
  connect(fd_, &unspecified, sizeof unspecified);  // dissolves the association with an RST
}

bool TinyServer::Peer::Pause(int milliseconds) const {
  pollfd gone{.fd = fd_, .events = POLLRDHUP, .revents = 0};
  return poll(&gone, 1, milliseconds) == 0 && !stopping_;
}

TinyServer::TinyServer(Serve serve, Kind kind, const std::string& path)
    : serve_(std::move(serve)), listener_(ListenOn(kind, path)), ipv6_(kind == Kind::kIpv6) {
  if (!listener_) {
    return;
  }
  port_ = kind == Kind::kUnix ? uint16_t{0} : PortOf(listener_.get());
  acceptor_ = std::thread([this] { Accept(); });
}

TinyServer::~TinyServer() {
  stopping_ = true;
  if (!acceptor_.joinable()) {
    return;
  }
  shutdown(listener_.get(), SHUT_RDWR);  // wakes accept
  acceptor_.join();
  for (Connection& peer : peers_) {
    shutdown(peer.fd.get(), SHUT_RDWR);
  }
  for (Connection& peer : peers_) {
    peer.thread.join();
  }
}

std::string TinyServer::Url(const std::string& path) const {
  return fmt::format("http://{}:{}{}", ipv6_ ? "[::1]" : "127.0.0.1", port_, path);
}

void TinyServer::Accept() {
  while (true) {
    UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) {
      return;
    }
    ++connections_;
    const std::lock_guard lock(mutex_);
    Connection& connection = peers_.emplace_back();
    connection.fd = std::move(fd);
    connection.thread = std::thread([this, number = connection.fd.get()] {
      serve_(Peer(number, stopping_));
      shutdown(number, SHUT_RDWR);
    });
  }
}

TinyServer::Serve Answer(std::string response) {
  return [response = std::move(response)](const TinyServer::Peer& peer) {
    peer.ReadRequest();
    peer.Send(response);
  };
}

std::string Response(int status, std::string_view body, std::string_view extra_headers) {
  return fmt::format("HTTP/1.1 {} Text\r\nContent-Length: {}\r\n{}\r\n{}", status, body.size(), extra_headers, body);
}

RefusedPort::RefusedPort() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  port_ = PortOf(fd_.get());
}

}  // namespace supervisor
