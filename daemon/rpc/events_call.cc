#include "daemon/rpc/events_call.h"

#include <algorithm>
#include <utility>

#include "daemon/rpc/from_store.h"
#include "daemon/rpc/wire.h"

namespace supervisor {
namespace {

constexpr size_t kMostQueued = 4096;
constexpr size_t kDefaultLimit = 50;

}  // namespace

EventsCall* EventsCall::Make(std::shared_ptr<Worker> worker, StreamRegistry& registry, Loop& loop, EventHub& hub,
                             Supervisor& supervisor, const v1::EventsRequest& request) {
  std::shared_ptr<EventsCall> stream(new EventsCall(std::move(worker), registry, loop, hub, supervisor, request));
  stream->self_ = stream;
  const grpc::Status ending(grpc::StatusCode::UNAVAILABLE, "the daemon is ending");
  const bool added = registry.Add(stream.get(), [weak = std::weak_ptr<EventsCall>(stream), ending] {
    if (const std::shared_ptr<EventsCall> alive = weak.lock()) {
      alive->Refuse(ending);
    }
  });
  if (!added) {
    stream->Refuse(ending);
  }
  return stream.get();
}

EventsCall::EventsCall(std::shared_ptr<Worker> worker, StreamRegistry& registry, Loop& loop, EventHub& hub,
                       Supervisor& supervisor, const v1::EventsRequest& request)
    : worker_(std::move(worker)),
      registry_(registry),
      loop_(loop),
      hub_(hub),
      supervisor_(supervisor),
      request_(request),
      types_(request.types().begin(), request.types().end()) {}

void EventsCall::Refuse(const grpc::Status& status) {
  worker_->Post([self = shared_from_this(), status] { self->End(status); });
}

void EventsCall::Begin(std::vector<std::string> ids) {
  worker_->Post([self = shared_from_this(), ids = std::move(ids)] {
    if (!self->finished_) {
      self->begun_ = true;
      self->ids_.insert(ids.begin(), ids.end());
      self->Open();
    }
  });
}

void EventsCall::AddIds(std::vector<std::string> ids) {
  worker_->Post([self = shared_from_this(), ids = std::move(ids)] {
    if (!self->begun_ || !self->ids_.empty()) {
      self->ids_.insert(ids.begin(), ids.end());
    }
  });
}

void EventsCall::Open() {
  if (request_.follow()) {
    // First of all: an event that is committed from here on is either in the history or comes live, or both.
    subscription_ = hub_.Subscribe([weak = weak_from_this()](const std::vector<EventRow>& rows) {
      if (const std::shared_ptr<EventsCall> self = weak.lock()) {
        self->worker_->Post([self, rows] { self->OnLive(rows); });
      }
    });
  }
  Store::EventQuery query;
  query.service_ids = {ids_.begin(), ids_.end()};
  query.limit = request_.no_history() ? 1 : request_.limit() > 0 ? request_.limit() : kDefaultLimit;
  if (request_.after_id() > 0) {
    query.after_id = request_.after_id();
  }
  query.types = {types_.begin(), types_.end()};
  if (request_.since_unix_ms() > 0) {
    query.since = absl::FromUnixMillis(request_.since_unix_ms());
  }
  if (request_.until_unix_ms() > 0) {
    query.until = absl::FromUnixMillis(request_.until_unix_ms());
  }
  Ask(query, &EventsCall::OnHistory);
}

void EventsCall::Ask(const Store::EventQuery& query, void (EventsCall::*then)(Rows)) {
  const auto take = [self = shared_from_this(), then](Rows rows) {
    self->worker_->Post([self, then, rows = std::move(rows)]() mutable { (self.get()->*then)(std::move(rows)); });
  };
  supervisor_.QueryEvents(query, FromStore<std::vector<EventRow>>(loop_, take));
}

void EventsCall::OnHistory(Rows rows) {
  if (finished_) {
    return;
  }
  if (!rows.ok()) {
    // Who goes on where it was must not go on with a gap: it asks again.
    const bool again = request_.follow() && request_.after_id() > 0;
    if (again || !request_.follow()) {
      End(again ? grpc::Status(grpc::StatusCode::UNAVAILABLE, std::string(rows.status().message()))
                : StoreTrouble(rows.status()));
      return;
    }
  } else {
    for (EventRow& row : *rows) {
      last_id_ = std::max(last_id_, row.id);
      if (!request_.no_history()) {
        queue_.push_back(std::move(row));
        ++history_left_;
      }
    }
  }
  if (rows.ok() && rows->empty() && request_.after_id() > 0) {
    Store::EventQuery newest;
    newest.limit = 1;
    Ask(newest, &EventsCall::OnNothingLater);
    return;
  }
  history_read_ = true;
  OnLive(std::exchange(early_, {}));
}

// Nothing has happened since the reader's last event. Unless that is of another database, in whose place a new one is:
// then ids begin anew.
void EventsCall::OnNothingLater(Rows newest) {
  last_id_ = std::min(request_.after_id(), newest.ok() && !newest->empty() ? newest->front().id : 0);
  history_read_ = true;
  OnLive(std::exchange(early_, {}));
}

void EventsCall::OnLive(std::vector<EventRow> rows) {
  if (finished_) {
    return;
  }
  for (EventRow& row : rows) {
    if ((!ids_.empty() && !ids_.contains(row.service_id)) || (!types_.empty() && !types_.contains(row.event_type))) {
      continue;
    }
    if (!history_read_) {
      early_.push_back(std::move(row));
    } else if (row.id != 0 && row.id <= last_id_) {
      continue;  // the history had it; or a daemon tells again what the one before it may not have told
    } else if (queue_.size() - history_left_ >= kMostQueued) {
      ++missed_;
    } else {
      last_id_ = std::max(last_id_, row.id);
      queue_.push_back(std::move(row));
    }
  }
  Pump();
}

void EventsCall::Pump() {
  if (writing_ || finished_ || !history_read_) {
    return;
  }
  if (queue_.empty()) {
    if (!request_.follow()) {
      End(grpc::Status::OK);
    }
    return;
  }
  event_.Clear();
  wire::FillEvent(queue_.front(), &event_);
  queue_.pop_front();
  history_left_ -= std::min<size_t>(history_left_, 1);
  event_.set_missed(std::exchange(missed_, 0));
  writing_ = true;
  StartWrite(&event_);
}

void EventsCall::End(const grpc::Status& status) {
  if (!std::exchange(finished_, true)) {
    subscription_.reset();
    Finish(status);
  }
}

void EventsCall::OnWriteDone(bool ok) {
  worker_->Post([self = shared_from_this(), ok] {
    self->writing_ = false;
    if (!ok) {
      self->End({grpc::StatusCode::CANCELLED, "the reader has gone"});
      return;
    }
    self->Pump();
  });
}

void EventsCall::OnCancel() {
  worker_->Post([self = shared_from_this()] { self->End({grpc::StatusCode::CANCELLED, "cancelled"}); });
}

void EventsCall::OnDone() {
  registry_.Remove(this);
  const std::shared_ptr<EventsCall> last = std::move(self_);
}

}  // namespace supervisor
