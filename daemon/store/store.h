#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/store/metric_span.h"

namespace supervisor {

// A row of supervisor_services.
struct ServiceRow {
  std::string id;
  std::string name;
  std::string description;
  std::string state;
  std::optional<int64_t> pid;
  std::optional<int64_t> port;
  std::optional<absl::Time> start_time;
  int64_t uptime_seconds = 0;
  int64_t restart_count = 0;
  std::optional<absl::Time> last_restart;
  int priority = 999;
  bool critical = false;
  bool auto_restart = true;  // restart_policy.mode is not "never"
};

// A row of supervisor_events. `details` is a JSON object; `actor` is kept inside it (the table has no column for it).
struct EventRow {
  int64_t id = 0;  // 0 where it could not be written
  std::string service_id;
  std::string event_type;
  absl::Time timestamp;
  std::string message;
  std::string details;
  std::string actor;
  // Not of the table: what the caller knows it by, handed back with the committed row. 0: nothing.
  uint64_t ticket = 0;
  // An earlier daemon may have written it already: then nothing is done, and it counts as committed.
  bool unless_there = false;
  // Committed after followers have seen it with id 0.
  bool late = false;
  bool operator==(const EventRow&) const = default;
};

// What is known of an event only later: the last lines that its service wrote.
struct EventAmendment {
  std::string service_id;
  std::string event_type;
  absl::Time timestamp;
  std::string last_lines;  // a JSON array of strings
};

// A row of supervisor_metrics.
struct MetricRow {
  std::string service_id;
  absl::Time timestamp;
  std::optional<double> cpu_percent;
  std::optional<double> memory_mb;
  std::string health_status;
  std::optional<double> response_time_ms;
};

// A row of supervisor_usage: what a sample of the whole tree holds beyond a MetricRow.
struct UsageRow {
  std::string service_id;
  absl::Time timestamp;
  int64_t processes = 0;
  std::optional<int64_t> descriptors;  // none: not ours to see
  std::optional<double> read_bytes_per_second;
  std::optional<double> written_bytes_per_second;
};

// A row of supervisor_alerts. At most one of a service and rule is open.
struct AlertRow {
  int64_t id = 0;
  std::string service_id;
  std::string rule;      // "failed", "unhealthy", "flapping", "oom", "limit_exceeded", "cpu", "memory", ...
  std::string severity;  // "info", "warning", "critical"
  std::string message;
  std::vector<std::string> dependents;  // that the same cause affects
  absl::Time raised;
  std::optional<absl::Time> resolved;
  std::vector<std::string> owed = {};  // channels that have not been told of it, as it now is
  // Not of the table: nothing but `owed` is written, to the one that was raised then.
  bool only_owed = false;
};

// A restart that the events tell of.
struct RestartRow {
  std::string service_id;
  absl::Time timestamp;
};

// What supervisor_services, _events and _alerts say together.
struct StoreSummary {
  std::map<std::string, int64_t> services_by_state;  // without the daemon's own row
  int64_t restarts = 0;                              // sum of restart_count
  int64_t open_alerts = 0;
  int64_t events_last_day = 0;  // no more than 100,000 are counted
  std::optional<absl::Time> last_event;
};

struct StoreStats {
  uint64_t dropped_rows = 0;  // lost because the queue was full while the database could not be written
  uint64_t queued_rows = 0;
  std::string error;  // the present trouble in words; empty: none
};

// The memory of the system: SQLite, written by one thread in batches (WAL), read by another. Whatever happens to the
// file (locked, full, read-only, deleted, malformed), callers go on: rows wait in a bounded queue, what is dropped is
// counted.
class Store {
 public:
  struct Options {
    std::string path;
    size_t max_queued_rows = 100'000;
    absl::Duration metrics_retention = absl::Hours(24 * 7);
    absl::Duration events_retention = absl::Hours(24 * 30);
  };
  // On the writer thread, when a batch is on disk: its events with their ids, in order. Also for events that could not
  // be written, with id 0, so that live followers see them; those come again, `late`, when they are on disk after all.
  using CommittedCallback = std::function<void(std::vector<EventRow>)>;
  // On the writer thread, when trouble begins, changes or ends (empty).
  using TroubleCallback = std::function<void(const std::string& error)>;

  // Opens or creates the database: makes what tables and indexes are missing, changes nothing of others', sets a
  // malformed file aside (<path>.malformed-<time>) and begins a new one. Fails only where the directory cannot be
  // made; any other trouble is reported through on_trouble and retried.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const Options& options, CommittedCallback on_committed,
                                                     TroubleCallback on_trouble);
  static const char* SqliteVersion();  // of the library that is in use
  virtual ~Store() = default;          // writes what is queued, as far as that takes less than 2 s

  // Any thread; return at once.
  virtual void UpdateService(ServiceRow row) = 0;  // insert or update by id; created_at stays
  // Rows that the configuration no longer has get state "stopped" and pid NULL.
  virtual void RemoveServicesExcept(std::vector<std::string> ids) = 0;
  virtual void LogEvent(EventRow row) = 0;  // a service row that is missing is made first
  // Puts `last_lines` into the details of an event that was logged before, named by service, type and time (to the
  // millisecond).
  virtual void AmendEvent(EventAmendment amendment) = 0;
  virtual void RecordMetrics(MetricRow row) = 0;
  virtual void RecordUsage(UsageRow row) = 0;
  // Opens the alert, or says anew what is open of that service and rule (message, severity, dependents).
  virtual void RaiseAlert(AlertRow row) = 0;
  // Ends what is open of `row.service_id` and `row.rule` at `row.resolved`; where nothing is (the database was lost
  // meanwhile) the row is kept as one that is over.
  virtual void ResolveAlert(AlertRow row) = 0;
  // Some channels were told: `owed` are those that are left.
  virtual void AlertTold(AlertRow row) = 0;
  // Deletes what is older than the retention now, in the same small steps, instead of within the hour.
  virtual void CleanUp() = 0;
  virtual void SetRetention(absl::Duration metrics, absl::Duration events) = 0;
  virtual StoreStats Stats() const = 0;
  // Any thread. `done` runs when everything queued before is on disk, or nothing can be written at present: on the
  // writer thread, or at once on the caller's. A disk that hangs may hold it back for good, and the end of the store.
  virtual void WhenWritten(std::function<void()> done) = 0;

  // Any thread; return at once. `done` runs on the reader thread, after everything queued before the call is on disk
  // (or, while the database can't be written, without waiting for it).
  struct EventQuery {
    std::vector<std::string> service_ids = {};  // empty: all
    std::vector<std::string> types = {};        // empty: all
    std::optional<int64_t> after_id = std::nullopt;
    absl::Time since = absl::InfinitePast();
    absl::Time until = absl::InfiniteFuture();
    size_t limit = 50;  // the newest so many
  };
  virtual void QueryEvents(EventQuery query,
                           std::function<void(absl::StatusOr<std::vector<EventRow>>)> done) = 0;  // oldest first
  struct MetricQuery {
    std::string service_id = {};
    absl::Time since = absl::InfinitePast();
    absl::Time until = absl::InfiniteFuture();
    size_t limit = 10'000;     // the newest so many
    bool health_only = false;  // rows with a response time: results of checks
  };
  virtual void QueryMetrics(MetricQuery query,
                            std::function<void(absl::StatusOr<std::vector<MetricRow>>)> done) = 0;  // oldest first
  virtual void QueryUsage(MetricQuery query,
                          std::function<void(absl::StatusOr<std::vector<UsageRow>>)> done) = 0;  // oldest first
  struct SpanQuery {
    std::string service_id = {};
    absl::Time since = absl::InfinitePast();  // then from the first there is
    absl::Time until = absl::InfiniteFuture();
    size_t most_points = 500;
  };
  // All that was measured of a service in a span, however long, as so many points and a summary.
  virtual void QueryMetricSpan(SpanQuery query, std::function<void(absl::StatusOr<MetricSpan>)> done) = 0;
  struct AlertQuery {
    bool include_resolved = false;
    size_t limit = 50;       // the newest so many
    bool only_owed = false;  // also those that are over
  };
  virtual void QueryAlerts(AlertQuery query,
                           std::function<void(absl::StatusOr<std::vector<AlertRow>>)> done) = 0;  // oldest first
  // Restarts by policy since then, oldest first.
  virtual void QueryRestarts(absl::Time since, std::function<void(absl::StatusOr<std::vector<RestartRow>>)> done) = 0;
  // Rows of supervisor_services by id; no ids: all.
  virtual void QueryServices(std::vector<std::string> ids,
                             std::function<void(absl::StatusOr<std::vector<ServiceRow>>)> done) = 0;
  virtual void QuerySummary(std::function<void(absl::StatusOr<StoreSummary>)> done) = 0;
};

}  // namespace supervisor
