#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "daemon/store/store.h"

namespace supervisor {

struct QueuedEvent {
  EventRow row;
  uint64_t sequence = 0;
  bool published = false;  // followers have seen it, with id 0
};

struct QueuedService {
  ServiceRow row;
  absl::Time changed_at;
  bool removed = false;  // since the update
};

// row.resolved says whether it is raised (or said anew) or resolved.
struct QueuedAlert {
  AlertRow row;
  uint64_t sequence = 0;
};

// What one transaction writes, in this order.
struct StoreBatch {
  std::optional<std::set<std::string>> keep;  // services that are not among these are stopped
  std::map<std::string, QueuedService> services;
  std::vector<QueuedEvent> events;
  std::vector<EventAmendment> amendments;  // after the events
  std::vector<AlertRow> alerts;
  std::vector<MetricRow> metrics;
  std::vector<UsageRow> usage;
  uint64_t first_sequence = 0;

  size_t rows() const {
    return (keep.has_value() ? 1 : 0) + services.size() + events.size() + amendments.size() + alerts.size() +
           metrics.size() + usage.size();
  }
  bool empty() const { return rows() == 0; }
};

// The rows that wait for the writer, bounded in number and bytes. Not thread-safe; whoever owns it locks.
//
// Updates of one service are coalesced, the last one wins: a locked database costs one row a service, not one an
// update. What is too much goes in this order: the oldest of amendments, of usage, of metrics, of events, of alerts,
// the row that is added.
class StoreQueue {
 public:
  static constexpr uint64_t kNothingWaits = UINT64_MAX;

  StoreQueue(size_t max_rows, size_t max_bytes) : max_rows_(max_rows), max_bytes_(max_bytes) {}

  void UpdateService(ServiceRow row, absl::Time now);
  void RemoveServicesExcept(const std::vector<std::string>& ids);
  void AddEvent(EventRow row);
  void AddMetrics(MetricRow row);
  void AddUsage(UsageRow row);
  void AddAlert(AlertRow row);
  void AddAmendment(EventAmendment amendment);

  // Rows that were taken and are not written yet: they count too, and are never dropped.
  void SetInFlight(size_t rows) { in_flight_ = rows; }

  // The oldest rows, at most so many events, metrics and usage; all service rows and alerts.
  StoreBatch Take(size_t max_rows);

  // Copies of the events that followers have not seen, which from now on counts as done.
  std::vector<EventRow> PublishWaitingEvents();
  bool HasUnpublishedEvents() const { return unpublished_ > 0; }

  size_t rows() const;
  bool empty() const { return rows() == 0; }
  size_t in_flight() const { return in_flight_; }
  uint64_t dropped() const { return dropped_; }
  void CountDropped(uint64_t rows) { dropped_ += rows; }

  // Every row gets the next number. Queries wait for those that were queued before them.
  uint64_t last_sequence() const { return last_sequence_; }
  uint64_t OldestSequence() const;  // kNothingWaits when empty

 private:
  struct QueuedMetric {
    MetricRow row;
    uint64_t sequence = 0;
  };
  struct QueuedUsage {
    UsageRow row;
    uint64_t sequence = 0;
  };
  void NoteServiceChange();
  void DropOverflow();
  void DropOldestUsage();
  void DropOldestMetric();
  void DropOldestEvent();
  void TakeEvents(size_t count, StoreBatch& batch);
  void TakeMetrics(size_t count, StoreBatch& batch);
  void TakeUsage(size_t count, StoreBatch& batch);

  size_t max_rows_;
  size_t max_bytes_;
  std::optional<std::set<std::string>> keep_;  // applied before services_
  std::map<std::string, QueuedService> services_;
  uint64_t services_sequence_ = kNothingWaits;  // of the oldest change among them
  std::deque<QueuedEvent> events_;
  struct QueuedAmendment {
    EventAmendment amendment;
    uint64_t sequence = 0;
  };
  void DropOldestAmendment();

  std::deque<QueuedAmendment> amendments_;
  std::deque<QueuedAlert> alerts_;
  std::deque<QueuedMetric> metrics_;
  std::deque<QueuedUsage> usage_;
  size_t unpublished_ = 0;
  size_t bytes_ = 0;  // of all but services
  size_t in_flight_ = 0;
  uint64_t dropped_ = 0;
  uint64_t last_sequence_ = 0;
};

}  // namespace supervisor
