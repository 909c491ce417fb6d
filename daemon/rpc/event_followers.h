#pragma once

#include <memory>
#include <string>
#include <vector>

#include "daemon/rpc/events_call.h"
#include "daemon/rpc/named_targets.h"
#include "daemon/service/supervisor.h"

namespace supervisor {

// Looks up what `events` calls name, when they begin and, for those that follow, again after each reload. A service
// that is configured no more is known by what the database has of it. Loop thread.
class EventFollowers {
 public:
  EventFollowers(Loop& loop, Supervisor& supervisor);
  ~EventFollowers() = default;
  EventFollowers(const EventFollowers&) = delete;
  EventFollowers& operator=(const EventFollowers&) = delete;

  void Begin(const std::shared_ptr<EventsCall>& call, const std::vector<std::string>& targets, bool follow);

 private:
  struct Follower {
    std::weak_ptr<EventsCall> call;
    std::vector<std::string> targets;
  };
  void Update();

  Loop& loop_;
  Supervisor& supervisor_;
  std::vector<Follower> followers_;
  std::unique_ptr<TargetWatch::Subscription> watch_;
};

}  // namespace supervisor
