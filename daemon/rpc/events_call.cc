#include "daemon/rpc/events_call.h"

#include <algorithm>
#include <utility>

#include "daemon/rpc/wire.h"

namespace supervisor {
namespace {

constexpr size_t kMostQueued = 4096;
constexpr size_t kDefaultLimit = 50;

}  // namespace

EventsCall* EventsCall::Make(std::shared_ptr<Worker> worker, StreamRegistry& registry, EventHub& hub, Store& store,
                             const v1::EventsRequest& request) {
  std::shared_ptr<EventsCall> stream(new EventsCall(std::move(worker), registry, hub, store, request));
  stream->self_ = stream;
  registry.Add(stream.get(), [weak = std::weak_ptr<EventsCall>(stream)] {
    if (const std::shared_ptr<EventsCall> alive = weak.lock()) {
      alive->worker_->Post([alive] { alive->End({grpc::StatusCode::UNAVAILABLE, "the daemon is ending"}); });
    }
  });
  return stream.get();
}

EventsCall::EventsCall(std::shared_ptr<Worker> worker, StreamRegistry& registry, EventHub& hub, Store& store,
                       const v1::EventsRequest& request)
    : worker_(std::move(worker)), registry_(registry), hub_(hub), store_(store), request_(request) {}

void EventsCall::Refuse(const grpc::Status& status) {
  worker_->Post([self = shared_from_this(), status] { self->End(status); });
}

void EventsCall::Begin(std::vector<std::string> ids) {
  worker_->Post([self = shared_from_this(), ids = std::move(ids)] {
    self->ids_ = {ids.begin(), ids.end()};
    self->Open();
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
  store_.QueryEvents(query, [self = shared_from_this()](absl::StatusOr<std::vector<EventRow>> rows) {
    self->worker_->Post([self, rows = std::move(rows)]() mutable { self->OnHistory(std::move(rows)); });
  });
}

void EventsCall::OnHistory(absl::StatusOr<std::vector<EventRow>> rows) {
  if (finished_) {
    return;
  }
  if (!rows.ok()) {
    // Who goes on where it was must not go on with a gap: it asks again.
    if (!request_.follow() || request_.after_id() > 0) {
      End({grpc::StatusCode::UNAVAILABLE, std::string(rows.status().message())});
      return;
    }
  } else {
    for (EventRow& row : *rows) {
      last_id_ = std::max(last_id_, row.id);
      if (!request_.no_history()) {
        queue_.push_back(std::move(row));
      }
    }
  }
  if (rows.ok() && rows->empty() && request_.after_id() > 0) {
    Store::EventQuery newest;
    newest.limit = 1;
    store_.QueryEvents(newest, [self = shared_from_this()](const absl::StatusOr<std::vector<EventRow>>& found) {
      const int64_t id = found.ok() && !found->empty() ? found->front().id : 0;
      self->worker_->Post([self, id] { self->OnNothingLater(id); });
    });
    return;
  }
  history_read_ = true;
  OnLive(std::exchange(early_, {}));
}

// Nothing has happened since the reader's last event. Unless that is of another database, in whose place a new one is:
// then ids begin anew.
void EventsCall::OnNothingLater(int64_t newest_id) {
  last_id_ = std::min(request_.after_id(), newest_id);
  history_read_ = true;
  OnLive(std::exchange(early_, {}));
}

void EventsCall::OnLive(std::vector<EventRow> rows) {
  if (finished_) {
    return;
  }
  for (EventRow& row : rows) {
    if (!ids_.empty() && !ids_.contains(row.service_id)) {
      continue;
    }
    if (!history_read_) {
      early_.push_back(std::move(row));
    } else if (row.id != 0 && row.id <= last_id_) {
      continue;  // the history had it; or a daemon tells again what the one before it may not have told
    } else if (queue_.size() >= kMostQueued) {
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
