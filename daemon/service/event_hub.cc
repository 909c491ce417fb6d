#include "daemon/service/event_hub.h"

namespace supervisor {

EventHub::Subscription::~Subscription() {
  const std::lock_guard lock(hub_.mutex_);
  hub_.callbacks_.erase(key_);
}

std::unique_ptr<EventHub::Subscription> EventHub::Subscribe(Callback callback) {
  const std::lock_guard lock(mutex_);
  callbacks_.emplace(++next_, std::move(callback));
  return std::unique_ptr<Subscription>(new Subscription(*this, next_));
}

void EventHub::Publish(const std::vector<EventRow>& events) {
  const std::lock_guard lock(mutex_);
  for (const auto& [key, callback] : callbacks_) {
    callback(events);
  }
}

}  // namespace supervisor
