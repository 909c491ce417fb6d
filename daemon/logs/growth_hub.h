#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "daemon/logs/log_pump.h"

namespace supervisor {

// Who wants to hear that one stream's log has grown. Subscribing and leaving from any thread, telling from the pump's.
class GrowthHub : public std::enable_shared_from_this<GrowthHub> {
 public:
  explicit GrowthHub(std::string stream) : stream_(std::move(stream)) {}

  std::unique_ptr<LogPump::Subscription> Subscribe(LogPump::GrowthCallback callback);

  // A subscriber that comes after this has answered false sees what was written before in the file.
  bool HasSubscribers() const { return count_.load() > 0; }
  void Tell();

 private:
  struct Subscriber;
  class Token;
  void Leave(const std::shared_ptr<Subscriber>& subscriber);

  const std::string stream_;
  std::atomic<int> count_{0};
  using Subscribers = std::vector<std::shared_ptr<Subscriber>>;
  std::mutex mutex_;
  std::shared_ptr<const Subscribers> subscribers_;  // replaced, never changed: Tell copies the pointer alone
};

}  // namespace supervisor
