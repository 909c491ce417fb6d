#pragma once

#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/loop/loop.h"
#include "daemon/rpc/streams.h"
#include "daemon/service/event_hub.h"
#include "daemon/service/supervisor.h"
#include "supervisor/v1/supervisor.pb.h"

namespace supervisor {

// One `events` call: the history from the database, then the live events without a gap. A reader that is too slow is
// told how many it has missed. As LogsCall, it lives on one worker and deletes itself.
class EventsCall final : public grpc::ServerWriteReactor<v1::Event>, public std::enable_shared_from_this<EventsCall> {
 public:
  static EventsCall* Make(std::shared_ptr<Worker> worker, StreamRegistry& registry, Loop& loop, EventHub& hub,
                          Supervisor& supervisor, const v1::EventsRequest& request);

  // Any thread; one of them, once. `ids` empty: all.
  void Begin(std::vector<std::string> ids);
  void Refuse(const grpc::Status& status);
  // Any thread: a follower of some is told of these too. None where it is told of all.
  void AddIds(std::vector<std::string> ids);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  EventsCall(std::shared_ptr<Worker> worker, StreamRegistry& registry, Loop& loop, EventHub& hub,
             Supervisor& supervisor, const v1::EventsRequest& request);

  void Open();
  using Rows = absl::StatusOr<std::vector<EventRow>>;
  void Ask(const Store::EventQuery& query, void (EventsCall::*then)(Rows));
  void OnHistory(Rows rows);
  void OnNothingLater(Rows newest);
  void OnLive(std::vector<EventRow> rows);
  void Pump();
  void End(const grpc::Status& status);

  const std::shared_ptr<Worker> worker_;
  StreamRegistry& registry_;
  Loop& loop_;
  EventHub& hub_;
  Supervisor& supervisor_;
  const v1::EventsRequest request_;
  std::set<std::string> ids_;
  const std::set<std::string> types_;  // none: all
  bool begun_ = false;
  std::unique_ptr<EventHub::Subscription> subscription_;
  std::deque<EventRow> queue_;
  size_t history_left_ = 0;  // in the queue, before what is live: what the reader has asked for is not held against it
  std::vector<EventRow> early_;  // live ones that came before the history was read
  int64_t last_id_ = 0;
  uint64_t missed_ = 0;
  v1::Event event_;
  bool history_read_ = false;
  bool writing_ = false;
  bool finished_ = false;
  std::shared_ptr<EventsCall> self_;
};

}  // namespace supervisor
