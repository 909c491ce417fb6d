#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "daemon/store/store.h"

namespace supervisor {

// Hands committed events to those that follow them live. Thread-safe.
class EventHub {
 public:
  using Callback = std::function<void(const std::vector<EventRow>&)>;

  class Subscription {
   public:
    ~Subscription();
    Subscription(const Subscription&) = delete;
    Subscription& operator=(const Subscription&) = delete;

   private:
    friend class EventHub;
    Subscription(EventHub& hub, uint64_t key) : hub_(hub), key_(key) {}
    EventHub& hub_;
    uint64_t key_;
  };

  // The callback runs on the publisher's thread, must not block, and is not called any more once the subscription's
  // destructor has returned.
  std::unique_ptr<Subscription> Subscribe(Callback callback);
  void Publish(const std::vector<EventRow>& events);

 private:
  std::mutex mutex_;
  std::map<uint64_t, Callback> callbacks_;
  uint64_t next_ = 0;
};

}  // namespace supervisor
