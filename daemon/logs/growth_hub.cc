#include "daemon/logs/growth_hub.h"

#include <algorithm>
#include <utility>

namespace supervisor {

struct GrowthHub::Subscriber {
  LogPump::GrowthCallback callback;
  std::recursive_mutex mutex;  // held during the callback, which may destroy its own token
  bool alive = true;
};

class GrowthHub::Token final : public LogPump::Subscription {
 public:
  Token(std::shared_ptr<GrowthHub> hub, std::shared_ptr<Subscriber> subscriber)
      : hub_(std::move(hub)), subscriber_(std::move(subscriber)) {}
  Token(const Token&) = delete;
  Token& operator=(const Token&) = delete;
  ~Token() override {
    {
      const std::lock_guard lock(subscriber_->mutex);
      subscriber_->alive = false;
    }
    hub_->Leave(subscriber_);
  }

 private:
  std::shared_ptr<GrowthHub> hub_;
  std::shared_ptr<Subscriber> subscriber_;
};

std::unique_ptr<LogPump::Subscription> GrowthHub::Subscribe(LogPump::GrowthCallback callback) {
  auto subscriber = std::make_shared<Subscriber>();
  subscriber->callback = std::move(callback);
  {
    const std::lock_guard lock(mutex_);
    subscribers_.push_back(subscriber);
    ++count_;
  }
  return std::make_unique<Token>(shared_from_this(), std::move(subscriber));
}

void GrowthHub::Leave(const std::shared_ptr<Subscriber>& subscriber) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find(subscribers_.begin(), subscribers_.end(), subscriber);
  if (found != subscribers_.end()) {
    subscribers_.erase(found);
    --count_;
  }
}

void GrowthHub::Tell() {
  std::vector<std::shared_ptr<Subscriber>> told;
  {
    const std::lock_guard lock(mutex_);
    told = subscribers_;
  }
  for (const auto& subscriber : told) {
    const std::lock_guard lock(subscriber->mutex);
    if (subscriber->alive) {
      subscriber->callback(stream_);
    }
  }
}

}  // namespace supervisor
