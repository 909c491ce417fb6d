#include "daemon/rpc/event_followers.h"

#include <utility>

#include "daemon/rpc/from_store.h"
#include "daemon/rpc/wire.h"

namespace supervisor {
namespace {

constexpr char kOwnEvents[] = "supervisor";

// Adds the ids that each name is found under, or refuses the call for the first that nothing is known of.
void BeginWithRemoved(const std::shared_ptr<EventsCall>& call, std::vector<std::string> ids,
                      const std::vector<NamedTargets::Unknown>& unknown,
                      const absl::StatusOr<std::vector<ServiceRow>>& rows) {
  for (const NamedTargets::Unknown& name : unknown) {
    bool is_known = false;
    for (const ServiceRow& row : rows.ok() ? *rows : std::vector<ServiceRow>()) {
      if (IsInstanceOf(row.id, name.name)) {
        ids.push_back(row.id);
        is_known = true;
      }
    }
    if (!is_known) {
      call->Refuse(wire::ToGrpc(name.status));
      return;
    }
  }
  call->Begin(std::move(ids));
}

}  // namespace

EventFollowers::EventFollowers(Loop& loop, Supervisor& supervisor)
    : loop_(loop), supervisor_(supervisor), watch_(supervisor.target_watch().Subscribe([this] { Update(); })) {}

void EventFollowers::Begin(const std::shared_ptr<EventsCall>& call, const std::vector<std::string>& targets,
                           bool follow) {
  std::vector<std::string> ids;
  std::vector<std::string> services;
  for (const std::string& target : targets) {
    (target == kOwnEvents ? ids : services).push_back(target);
  }
  if (services.empty()) {
    call->Begin(std::move(ids));
    return;
  }
  const absl::StatusOr<NamedTargets> named = LookUpTargets(supervisor_, services);
  if (!named.ok()) {
    call->Refuse(wire::ToGrpc(named.status()));
    return;
  }
  for (const Instance* instance : named->instances) {
    ids.push_back(instance->id());
  }
  if (follow) {
    std::erase_if(followers_, [](const Follower& follower) { return follower.call.expired(); });
    followers_.push_back({call, services});
  }
  if (named->unknown.empty()) {
    call->Begin(std::move(ids));
    return;
  }
  supervisor_.QueryServices(FromStore<std::vector<ServiceRow>>(
      loop_, [call, ids, unknown = named->unknown](const absl::StatusOr<std::vector<ServiceRow>>& rows) {
        BeginWithRemoved(call, ids, unknown, rows);
      }));
}

void EventFollowers::Update() {
  std::erase_if(followers_, [](const Follower& follower) { return follower.call.expired(); });
  for (const Follower& follower : followers_) {
    std::vector<std::string> ids;
    for (const Instance* instance : LookUpAgain(supervisor_, follower.targets)) {
      ids.push_back(instance->id());
    }
    if (const std::shared_ptr<EventsCall> call = follower.call.lock()) {
      call->AddIds(std::move(ids));
    }
  }
}

}  // namespace supervisor
