#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "daemon/rpc/caller_trace.h"
#include "daemon/rpc/logs_call.h"
#include "daemon/service/supervisor.h"

namespace supervisor {

// Looks up what `logs` calls name, when they begin and, for those that follow, again whenever a reload may have added
// something to it. Keeps a service that follows logs from being shown its own output (feed_rule.h). Loop thread.
class LogFollowers {
 public:
  explicit LogFollowers(Supervisor& supervisor);
  ~LogFollowers() = default;
  LogFollowers(const LogFollowers&) = delete;
  LogFollowers& operator=(const LogFollowers&) = delete;

  struct Request {
    std::vector<std::string> targets;
    bool is_stderr = false;
    bool follow = false;
    CallerTrace caller;
  };
  void Begin(const std::shared_ptr<LogsCall>& call, Request request);

 private:
  struct Follower {
    std::weak_ptr<LogsCall> call;
    Request request;
    std::string caller;          // the instance that it is a process of; empty: none
    std::set<std::string> told;  // what it shows, and what it was told that it does not
    std::set<std::string> shown;
  };

  LogsCall::Additions Add(Follower& follower, const std::vector<Instance*>& instances);
  std::string InstanceOfCaller(const CallerTrace& caller) const;
  bool MayShow(const Follower& follower, const std::string& id) const;
  void Update();

  Supervisor& supervisor_;
  std::vector<std::unique_ptr<Follower>> followers_;
  std::unique_ptr<TargetWatch::Subscription> watch_;
};

}  // namespace supervisor
