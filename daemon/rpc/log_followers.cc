#include "daemon/rpc/log_followers.h"

#include <utility>

#include "daemon/rpc/feed_rule.h"
#include "daemon/rpc/named_targets.h"
#include "daemon/rpc/wire.h"

namespace supervisor {

LogFollowers::LogFollowers(Supervisor& supervisor)
    : supervisor_(supervisor), watch_(supervisor.target_watch().Subscribe([this] { Update(); })) {}

void LogFollowers::Begin(const std::shared_ptr<LogsCall>& call, Request request) {
  absl::StatusOr<NamedTargets> named = LookUpTargets(supervisor_, request.targets);
  if (!named.ok()) {
    call->Refuse(wire::ToGrpc(named.status()));
    return;
  }
  LogsCall::Start start;
  for (const NamedTargets::Unknown& unknown : named->unknown) {
    start.unknown.push_back({unknown.name, wire::ToGrpc(unknown.status)});
  }
  start.log_directory = supervisor_.config().global.log_directory;
  std::erase_if(followers_, [](const auto& follower) { return follower->call.expired(); });
  auto follower = std::make_unique<Follower>();
  follower->call = call;
  follower->request = std::move(request);
  if (follower->request.follow) {
    follower->caller = InstanceOfCaller(follower->request.caller);
  }
  start.additions = Add(*follower, named->instances);
  if (follower->request.follow) {
    followers_.push_back(std::move(follower));
  }
  call->Begin(std::move(start));
}

void LogFollowers::Update() {
  std::erase_if(followers_, [](const auto& follower) { return follower->call.expired(); });
  for (const auto& follower : followers_) {
    LogsCall::Additions additions = Add(*follower, LookUpAgain(supervisor_, follower->request.targets));
    const std::shared_ptr<LogsCall> call = follower->call.lock();
    if (call != nullptr && !(additions.sources.empty() && additions.left_out.empty())) {
      call->Add(std::move(additions));
    }
  }
}

LogsCall::Additions LogFollowers::Add(Follower& follower, const std::vector<Instance*>& instances) {
  LogsCall::Additions additions;
  for (const Instance* instance : instances) {
    const std::string& id = instance->id();
    if (!follower.told.insert(id).second) {
      continue;
    }
    if (!MayShow(follower, id)) {
      additions.left_out.push_back(id);
      continue;
    }
    follower.shown.insert(id);
    const bool is_stderr = follower.request.is_stderr;
    additions.sources.push_back({.id = id,
                                 .stream = is_stderr ? instance->stderr_stream() : instance->stdout_stream(),
                                 .file = is_stderr ? instance->stderr_log_path() : instance->log_path()});
  }
  return additions;
}

bool LogFollowers::MayShow(const Follower& follower, const std::string& id) const {
  if (follower.caller.empty()) {
    return true;
  }
  std::map<std::string, std::set<std::string>> follows;
  for (const auto& other : followers_) {
    if (!other->caller.empty() && !other->call.expired()) {
      follows[other->caller].insert(other->shown.begin(), other->shown.end());
    }
  }
  return !FeedsOnItself(follows, follower.caller, id);
}

std::string LogFollowers::InstanceOfCaller(const CallerTrace& caller) const {
  for (const Instance* instance : supervisor_.instances()) {
    if (IsOfTree(caller, instance->tree_view(), instance->pid())) {
      return instance->id();
    }
  }
  return "";
}

}  // namespace supervisor
