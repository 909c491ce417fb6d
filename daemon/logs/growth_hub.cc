#include "daemon/logs/growth_hub.h"

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
    auto changed = subscribers_ ? std::make_shared<Subscribers>(*subscribers_) : std::make_shared<Subscribers>();
    changed->push_back(subscriber);
    subscribers_ = std::move(changed);
    ++count_;
  }
  return std::make_unique<Token>(shared_from_this(), std::move(subscriber));
}

void GrowthHub::Leave(const std::shared_ptr<Subscriber>& subscriber) {
  const std::lock_guard lock(mutex_);
  auto changed = std::make_shared<Subscribers>(*subscribers_);
  count_ -= static_cast<int>(std::erase(*changed, subscriber));
  subscribers_ = std::move(changed);
}

void GrowthHub::Tell() {
  std::shared_ptr<const Subscribers> told;
  {
    const std::lock_guard lock(mutex_);
    told = subscribers_;
  }
  if (told == nullptr) {
    return;
  }
  for (const auto& subscriber : *told) {
    const std::lock_guard lock(subscriber->mutex);
    if (subscriber->alive) {
      subscriber->callback(stream_);
    }
  }
}

}  // namespace supervisor
