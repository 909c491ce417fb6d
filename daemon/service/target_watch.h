#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

namespace supervisor {

// Tells when a target (targets.h) may name other instances than before: a reload has added some. Loop thread.
class TargetWatch {
 public:
  using Callback = std::function<void()>;

  // The callback is called until this is destroyed. May outlive the watch.
  class Subscription {
   public:
    ~Subscription() { callbacks_->erase(key_); }
    Subscription(const Subscription&) = delete;
    Subscription& operator=(const Subscription&) = delete;

   private:
    friend class TargetWatch;
    using Callbacks = std::map<uint64_t, Callback>;
    Subscription(std::shared_ptr<Callbacks> callbacks, uint64_t key) : callbacks_(std::move(callbacks)), key_(key) {}
    std::shared_ptr<Callbacks> callbacks_;
    uint64_t key_;
  };

  std::unique_ptr<Subscription> Subscribe(Callback callback) {
    const uint64_t key = next_++;
    callbacks_->emplace(key, std::move(callback));
    return std::unique_ptr<Subscription>(new Subscription(callbacks_, key));
  }

  // The callbacks may not subscribe or leave.
  void Tell() const {
    for (const auto& [key, callback] : *callbacks_) {
      callback();
    }
  }

 private:
  std::shared_ptr<Subscription::Callbacks> callbacks_ = std::make_shared<Subscription::Callbacks>();
  uint64_t next_ = 0;
};

}  // namespace supervisor
