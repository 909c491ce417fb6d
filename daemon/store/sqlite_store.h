#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "daemon/store/store.h"
#include "daemon/store/store_state.h"

namespace supervisor {

// The Store: the callers' side of a queue, with the writer and the reader on the other. Stopping waits for both threads
// as long as writing may take; one that hangs in the disk beyond that is left behind, and no longer calls anybody.
class SqliteStore final : public Store {
 public:
  // What Store::Open does, with times of the caller's choice.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const Options& options, const StoreTuning& tuning,
                                                     CommittedCallback on_committed, TroubleCallback on_trouble);

  SqliteStore(const SqliteStore&) = delete;
  SqliteStore& operator=(const SqliteStore&) = delete;
  ~SqliteStore() override;

  void UpdateService(ServiceRow row) override;
  void RemoveServicesExcept(std::vector<std::string> ids) override;
  void LogEvent(EventRow row) override;
  void AmendEvent(EventAmendment amendment) override;
  void RecordMetrics(MetricRow row) override;
  void RecordUsage(UsageRow row) override;
  void RaiseAlert(AlertRow row) override;
  void ResolveAlert(AlertRow row) override;
  void AlertTold(AlertRow row) override;
  void CleanUp() override;
  void SetRetention(absl::Duration metrics, absl::Duration events) override;
  StoreStats Stats() const override;
  void WhenWritten(std::function<void()> done) override;
  void QueryEvents(EventQuery query, std::function<void(absl::StatusOr<std::vector<EventRow>>)> done) override;
  void QueryMetrics(MetricQuery query, std::function<void(absl::StatusOr<std::vector<MetricRow>>)> done) override;
  void QueryUsage(MetricQuery query, std::function<void(absl::StatusOr<std::vector<UsageRow>>)> done) override;
  void QueryMetricSpan(SpanQuery query, std::function<void(absl::StatusOr<MetricSpan>)> done) override;
  void QueryAlerts(AlertQuery query, std::function<void(absl::StatusOr<std::vector<AlertRow>>)> done) override;
  void QueryRestarts(absl::Time since, std::function<void(absl::StatusOr<std::vector<RestartRow>>)> done) override;
  void QueryServices(std::vector<std::string> ids,
                     std::function<void(absl::StatusOr<std::vector<ServiceRow>>)> done) override;
  void QuerySummary(std::function<void(absl::StatusOr<StoreSummary>)> done) override;

 private:
  explicit SqliteStore(std::shared_ptr<StoreState> state);
  void Start(CommittedCallback on_committed, TroubleCallback on_trouble);
  std::thread StartThread(const char* name, std::function<void()> body);
  // Under the state's mutex, after a row was queued.
  void WakeWriter(MonoTime due);
  void Enqueue(QueryWork work);
  void EnqueueAlert(AlertRow row);

  std::shared_ptr<StoreState> state_;
  // One a thread: an owner that waits in one call for the other must not wait forever.
  std::shared_ptr<CallGate> writer_gate_ = std::make_shared<CallGate>();
  std::shared_ptr<CallGate> reader_gate_ = std::make_shared<CallGate>();
  std::thread writer_;
  std::thread reader_;
};

}  // namespace supervisor
