#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "common/unique_fd.h"
#include "daemon/health/curl_api.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// A curl multi handle driven by a Loop: any number of transfers at once on one thread, none of which waits for another.
// Loop thread.
class CurlDriver {
 public:
  using Done = std::function<void(CURLcode)>;

  explicit CurlDriver(Loop& loop);
  ~CurlDriver();  // REQUIRES: every transfer is done or removed
  CurlDriver(const CurlDriver&) = delete;
  CurlDriver& operator=(const CurlDriver&) = delete;

  // Loads libcurl and makes the multi handle, once; the other members REQUIRE that it succeeded.
  absl::Status Prepare();
  const CurlApi& api() const { return *api_; }

  // Begins the transfer. `easy` is borrowed and stays the caller's, to be destroyed after `done` or Remove. `done` is
  // called on a later turn; it may add and remove transfers, this one included.
  absl::Status Add(CURL* easy, Done done);
  // Not from within a callback of curl's own (write, header, socket).
  void Remove(CURL* easy);

 private:
  static int OnSocket(CURL* easy, curl_socket_t socket, int what, void* self, void* socket_data);
  static int OnTimer(CURLM* multi, long timeout_ms, void* self);
  void Watch(curl_socket_t socket, int what);
  void Act(curl_socket_t socket, int events);

  Loop& loop_;
  const CurlApi* api_ = nullptr;
  CURLM* multi_ = nullptr;
  std::unique_ptr<Loop::Timer> timer_;
  std::map<curl_socket_t, std::unique_ptr<Loop::Watch>> watches_;
  std::map<CURL*, Done> transfers_;
};

}  // namespace supervisor
