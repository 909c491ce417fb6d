#include "daemon/store/store_queue.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace supervisor {
namespace {

size_t Bytes(const EventRow& row) {
  return sizeof(QueuedEvent) + row.service_id.size() + row.event_type.size() + row.message.size() + row.details.size() +
         row.actor.size();
}

size_t Bytes(const MetricRow& row) { return sizeof(MetricRow) + row.service_id.size() + row.health_status.size(); }

size_t Bytes(const EventAmendment& row) {
  return sizeof(row) + row.service_id.size() + row.event_type.size() + row.last_lines.size();
}

size_t Bytes(const UsageRow& row) { return sizeof(UsageRow) + row.service_id.size(); }

size_t Bytes(const AlertRow& row) {
  size_t bytes =
      sizeof(QueuedAlert) + row.service_id.size() + row.rule.size() + row.severity.size() + row.message.size();
  for (const std::vector<std::string>* texts : {&row.dependents, &row.owed}) {
    for (const std::string& text : *texts) {
      bytes += sizeof(std::string) + text.size();
    }
  }
  return bytes;
}

std::set<std::string> Intersection(const std::set<std::string>& a, const std::set<std::string>& b) {
  std::set<std::string> both;
  std::ranges::set_intersection(a, b, std::inserter(both, both.end()));
  return both;
}

}  // namespace

void StoreQueue::NoteServiceChange() { services_sequence_ = std::min(services_sequence_, ++last_sequence_); }

void StoreQueue::UpdateService(ServiceRow row, absl::Time now) {
  NoteServiceChange();
  std::string id = row.id;
  services_.insert_or_assign(std::move(id), QueuedService{.row = std::move(row), .changed_at = now, .removed = false});
  DropOverflow();
}

void StoreQueue::RemoveServicesExcept(const std::vector<std::string>& ids) {
  NoteServiceChange();
  std::set<std::string> keep(ids.begin(), ids.end());
  // An update from before is written after the removal, so it has to say itself what came of it.
  for (auto& [id, service] : services_) {
    if (!keep.contains(id)) {
      service.row.state = "stopped";
      service.row.pid.reset();
      service.removed = true;
    }
  }
  keep_ = keep_.has_value() ? Intersection(*keep_, keep) : std::move(keep);
  DropOverflow();
}

void StoreQueue::AddEvent(EventRow row) {
  bytes_ += Bytes(row);
  ++unpublished_;
  events_.push_back({std::move(row), ++last_sequence_, false});
  DropOverflow();
}

void StoreQueue::AddMetrics(MetricRow row) {
  bytes_ += Bytes(row);
  metrics_.push_back({std::move(row), ++last_sequence_});
  DropOverflow();
}

void StoreQueue::AddUsage(UsageRow row) {
  bytes_ += Bytes(row);
  usage_.push_back({std::move(row), ++last_sequence_});
  DropOverflow();
}

void StoreQueue::AddAmendment(EventAmendment amendment) {
  bytes_ += Bytes(amendment);
  amendments_.push_back({std::move(amendment), ++last_sequence_});
  DropOverflow();
}

void StoreQueue::DropOldestAmendment() {
  bytes_ -= Bytes(amendments_.front().amendment);
  amendments_.pop_front();
}

void StoreQueue::AddAlert(AlertRow row) {
  bytes_ += Bytes(row);
  alerts_.push_back({std::move(row), ++last_sequence_});
  DropOverflow();
}

size_t StoreQueue::rows() const {
  return (keep_.has_value() ? 1 : 0) + services_.size() + events_.size() + amendments_.size() + alerts_.size() +
         metrics_.size() + usage_.size();
}

void StoreQueue::DropOverflow() {
  while (rows() + in_flight_ > max_rows_ || bytes_ > max_bytes_) {
    if (!amendments_.empty()) {
      DropOldestAmendment();
    } else if (!usage_.empty()) {
      DropOldestUsage();
    } else if (!metrics_.empty()) {
      DropOldestMetric();
    } else if (!events_.empty()) {
      DropOldestEvent();
    } else if (!alerts_.empty()) {
      bytes_ -= Bytes(alerts_.front().row);
      alerts_.pop_front();
    } else {
      return;  // one row a service: bounded by the configuration
    }
    ++dropped_;
  }
}

void StoreQueue::DropOldestUsage() {
  bytes_ -= Bytes(usage_.front().row);
  usage_.pop_front();
}

void StoreQueue::DropOldestMetric() {
  bytes_ -= Bytes(metrics_.front().row);
  metrics_.pop_front();
}

void StoreQueue::DropOldestEvent() {
  bytes_ -= Bytes(events_.front().row);
  unpublished_ -= events_.front().published ? 0 : 1;
  events_.pop_front();
}

StoreBatch StoreQueue::Take(size_t max_rows) {
  StoreBatch batch;
  batch.first_sequence = OldestSequence();
  batch.keep = std::exchange(keep_, std::nullopt);
  batch.services = std::exchange(services_, {});
  services_sequence_ = kNothingWaits;
  const size_t events = std::min(max_rows, events_.size());
  TakeEvents(events, batch);
  for (; events_.empty() && !amendments_.empty(); amendments_.pop_front()) {
    bytes_ -= Bytes(amendments_.front().amendment);
    batch.amendments.push_back(std::move(amendments_.front().amendment));
  }
  const size_t metrics = std::min(max_rows - events, metrics_.size());
  TakeMetrics(metrics, batch);
  TakeUsage(std::min(max_rows - events - metrics, usage_.size()), batch);
  for (; !alerts_.empty(); alerts_.pop_front()) {
    bytes_ -= Bytes(alerts_.front().row);
    batch.alerts.push_back(std::move(alerts_.front().row));
  }
  return batch;
}

void StoreQueue::TakeEvents(size_t count, StoreBatch& batch) {
  batch.events.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    QueuedEvent& event = events_.front();
    bytes_ -= Bytes(event.row);
    unpublished_ -= event.published ? 0 : 1;
    batch.events.push_back(std::move(event));
    events_.pop_front();
  }
}

void StoreQueue::TakeMetrics(size_t count, StoreBatch& batch) {
  batch.metrics.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    bytes_ -= Bytes(metrics_.front().row);
    batch.metrics.push_back(std::move(metrics_.front().row));
    metrics_.pop_front();
  }
}

void StoreQueue::TakeUsage(size_t count, StoreBatch& batch) {
  batch.usage.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    bytes_ -= Bytes(usage_.front().row);
    batch.usage.push_back(std::move(usage_.front().row));
    usage_.pop_front();
  }
}

std::vector<EventRow> StoreQueue::PublishWaitingEvents() {
  std::vector<EventRow> rows;
  rows.reserve(unpublished_);
  for (QueuedEvent& event : events_) {
    if (!event.published) {
      event.published = true;
      rows.push_back(event.row);
    }
  }
  unpublished_ = 0;
  return rows;
}

uint64_t StoreQueue::OldestSequence() const {
  uint64_t oldest = services_sequence_;
  if (!events_.empty()) {
    oldest = std::min(oldest, events_.front().sequence);
  }
  if (!metrics_.empty()) {
    oldest = std::min(oldest, metrics_.front().sequence);
  }
  if (!usage_.empty()) {
    oldest = std::min(oldest, usage_.front().sequence);
  }
  if (!alerts_.empty()) {
    oldest = std::min(oldest, alerts_.front().sequence);
  }
  if (!amendments_.empty()) {
    oldest = std::min(oldest, amendments_.front().sequence);
  }
  return oldest;
}

}  // namespace supervisor
