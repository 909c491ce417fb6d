#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "common/unique_fd.h"

namespace supervisor {

// A server on loopback that misbehaves as told: each connection is given to `serve` on a thread of its own. Ends all
// connections, and waits for their threads, when it goes.
class TinyServer {
 public:
  // One connection, as its server sees it.
  class Peer {
   public:
    Peer(int fd, const std::atomic<bool>& stopping) : fd_(fd), stopping_(stopping) {}
    // Up to the end of the request's header; empty when the client has gone.
    std::string ReadRequest() const;
    // False when the client has gone, or the server ends.
    bool Send(std::string_view bytes) const;
    void WaitUntilClosed() const;
    // Ends the connection rudely.
    void Reset() const;
    // False when the client has gone or the server ends meanwhile.
    bool Pause(int milliseconds) const;

   private:
    int fd_;
    const std::atomic<bool>& stopping_;
  };
  using Serve = std::function<void(const Peer&)>;

  enum class Kind { kIpv4, kIpv6, kUnix };
  explicit TinyServer(Serve serve, Kind kind = Kind::kIpv4, const std::string& path = "");
  ~TinyServer();
  TinyServer(const TinyServer&) = delete;
  TinyServer& operator=(const TinyServer&) = delete;

  bool listens() const { return listener_.valid(); }
  uint16_t port() const { return port_; }
  std::string Url(const std::string& path = "/") const;
  int connections() const { return connections_; }

 private:
  struct Connection {
    UniqueFd fd;
    std::thread thread;
  };
  void Accept();

  Serve serve_;
  UniqueFd listener_;
  uint16_t port_ = 0;
  bool ipv6_ = false;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> connections_ = 0;
  std::mutex mutex_;
  std::list<Connection> peers_;
  std::thread acceptor_;
};

// Answers every request with these bytes, then closes.
TinyServer::Serve Answer(std::string response);
// "HTTP/1.1 STATUS ..." with a Content-Length and the body.
std::string Response(int status, std::string_view body, std::string_view extra_headers = "");

// A port of 127.0.0.1 that nobody listens on, held by a socket that is bound but not listening.
class RefusedPort {
 public:
  RefusedPort();
  uint16_t port() const { return port_; }

 private:
  UniqueFd fd_;
  uint16_t port_ = 0;
};

}  // namespace supervisor
