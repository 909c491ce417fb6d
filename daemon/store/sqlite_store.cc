#include "daemon/store/sqlite_store.h"

#include <fmt/format.h>
#include <pthread.h>

#include <utility>

#include "common/signals_blocked.h"
#include "daemon/store/db_file.h"
#include "daemon/store/schema.h"
#include "daemon/store/store_reader.h"
#include "daemon/store/store_writer.h"

namespace supervisor {
namespace {

// Beyond the time to write, for SQLite to close: then a thread counts as hanging.
constexpr absl::Duration kTimeToClose = absl::Milliseconds(500);
// Behind a disk that hangs; `health` alone asks one a service.
constexpr size_t kMostQueries = 10'000;

// The work of a query whose rows `read` gets: the answer is read now and delivered later.
template <typename Rows, typename Read>
QueryWork MakeWork(Read read, std::function<void(absl::StatusOr<Rows>)> done) {
  return [read = std::move(read), done = std::move(done)](absl::StatusOr<RowReader*> reader) {
    auto rows = std::make_shared<absl::StatusOr<Rows>>(reader.ok() ? read(**reader) : reader.status());
    absl::Status status = rows->status();
    return QueryAnswer{std::move(status), [rows, done] { done(std::move(*rows)); }};
  };
}

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> SqliteStore::Open(const Options& options, const StoreTuning& tuning,
                                                         CommittedCallback on_committed, TroubleCallback on_trouble) {
  absl::StatusOr<std::string> path = ResolveDatabasePath(options.path);
  if (!path.ok()) {
    return path.status();
  }
  auto state = std::make_shared<StoreState>(*std::move(path), tuning, options.max_queued_rows);
  state->metrics_retention = options.metrics_retention;
  state->events_retention = options.events_retention;
  std::unique_ptr<SqliteStore> store(new SqliteStore(std::move(state)));
  store->Start(std::move(on_committed), std::move(on_trouble));
  return store;
}

SqliteStore::SqliteStore(std::shared_ptr<StoreState> state) : state_(std::move(state)) {}

void SqliteStore::Start(CommittedCallback on_committed, TroubleCallback on_trouble) {
  const SignalsBlocked blocked;  // they are the loop's
  auto reader = std::make_shared<StoreReader>(state_, reader_gate_);
  auto writer =
      std::make_shared<StoreWriter>(state_, reader, writer_gate_, std::move(on_committed), std::move(on_trouble));
  writer_ = StartThread("store-writer", [writer] { writer->Run(); });
  reader_ = StartThread("store-reader", [reader] { reader->Run(); });
}

std::thread SqliteStore::StartThread(const char* name, std::function<void()> body) {
  {
    const std::lock_guard lock(state_->mutex);
    ++state_->threads;
  }
  std::thread thread([state = state_, body = std::move(body)]() mutable {
    body();
    body = nullptr;  // the callbacks go before the owner may
    const std::lock_guard lock(state->mutex);
    --state->threads;
    state->thread_ended.notify_all();
  });
  pthread_setname_np(thread.native_handle(), name);
  return thread;
}

SqliteStore::~SqliteStore() {
  std::unique_lock lock(state_->mutex);
  state_->stop_deadline = MonotonicNow() + state_->tuning.flush_time;
  state_->stopping = true;
  state_->writer_wake.notify_all();
  state_->reader_wake.notify_all();
  const bool ended =
      state_->thread_ended.wait_for(lock, absl::ToChronoNanoseconds(state_->tuning.flush_time + kTimeToClose),
                                    [this] { return state_->threads == 0; });
  lock.unlock();
  if (ended) {
    writer_.join();
    reader_.join();
    return;
  }
  writer_gate_->Close();
  reader_gate_->Close();
  writer_.detach();  // style-ok(detach): the disk hangs, and the end of the daemon must not
  reader_.detach();  // style-ok(detach): likewise; both own what they touch
}

void SqliteStore::WakeWriter(MonoTime due) {
  const bool sooner = due < state_->write_at;
  if (sooner) {
    state_->write_at = due;
  }
  // Nobody to wake when the writer's alarm is early enough; in trouble events are shown at once.
  if (sooner || state_->stuck || state_->queue.rows() == state_->tuning.batch_rows) {
    state_->writer_wake.notify_one();
  }
}

void SqliteStore::UpdateService(ServiceRow row) {
  const MonoTime now = MonotonicNow();
  const std::lock_guard lock(state_->mutex);
  state_->queue.UpdateService(std::move(row), WallNow());
  WakeWriter(std::max(now, state_->last_write + state_->tuning.burst_interval));
}

void SqliteStore::RemoveServicesExcept(std::vector<std::string> ids) {
  const std::lock_guard lock(state_->mutex);
  state_->queue.RemoveServicesExcept(ids);
  WakeWriter(MonotonicNow());
}

void SqliteStore::LogEvent(EventRow row) {
  if (row.service_id.empty()) {
    row.service_id = kSupervisorServiceId;
  }
  if (row.details.empty()) {
    row.details = "{}";
  }
  row.id = 0;
  const MonoTime now = MonotonicNow();
  const std::lock_guard lock(state_->mutex);
  state_->queue.AddEvent(std::move(row));
  WakeWriter(std::max(now, state_->last_write + state_->tuning.burst_interval));
}

void SqliteStore::RecordMetrics(MetricRow row) {
  const MonoTime now = MonotonicNow();
  const std::lock_guard lock(state_->mutex);
  state_->queue.AddMetrics(std::move(row));
  WakeWriter(now + state_->tuning.metrics_delay);
}

void SqliteStore::AmendEvent(EventAmendment amendment) {
  const MonoTime now = MonotonicNow();
  const std::lock_guard lock(state_->mutex);
  state_->queue.AddAmendment(std::move(amendment));
  WakeWriter(std::max(now, state_->last_write + state_->tuning.burst_interval));
}

void SqliteStore::RecordUsage(UsageRow row) {
  const MonoTime now = MonotonicNow();
  const std::lock_guard lock(state_->mutex);
  state_->queue.AddUsage(std::move(row));
  WakeWriter(now + state_->tuning.metrics_delay);
}

void SqliteStore::EnqueueAlert(AlertRow row) {
  const MonoTime now = MonotonicNow();
  const std::lock_guard lock(state_->mutex);
  state_->queue.AddAlert(std::move(row));
  WakeWriter(std::max(now, state_->last_write + state_->tuning.burst_interval));
}

void SqliteStore::RaiseAlert(AlertRow row) {
  row.resolved.reset();
  EnqueueAlert(std::move(row));
}

void SqliteStore::ResolveAlert(AlertRow row) {
  if (!row.resolved.has_value()) {
    row.resolved = WallNow();
  }
  EnqueueAlert(std::move(row));
}

void SqliteStore::AlertTold(AlertRow row) {
  row.only_owed = true;
  EnqueueAlert(std::move(row));
}

void SqliteStore::CleanUp() {
  const std::lock_guard lock(state_->mutex);
  state_->clean_up_now = true;
  state_->writer_wake.notify_one();
}

void SqliteStore::SetRetention(absl::Duration metrics, absl::Duration events) {
  const std::lock_guard lock(state_->mutex);
  state_->metrics_retention = metrics;
  state_->events_retention = events;
  state_->retention_changed = true;
  state_->writer_wake.notify_one();
}

StoreStats SqliteStore::Stats() const {
  const std::lock_guard lock(state_->mutex);
  return {.dropped_rows = state_->queue.dropped(),
          .queued_rows = state_->queue.rows() + state_->queue.in_flight(),
          .error = state_->trouble};
}

void SqliteStore::WhenWritten(std::function<void()> done) {
  {
    const std::lock_guard lock(state_->mutex);
    const uint64_t sequence = state_->queue.last_sequence();
    if (!state_->IsSettled(sequence)) {
      state_->waiting_for_write.push_back({sequence, std::move(done)});
      state_->writer_wake.notify_one();  // the rows are due now
      return;
    }
  }
  done();
}

void SqliteStore::Enqueue(QueryWork work) {
  std::unique_lock lock(state_->mutex);
  if (state_->queries.size() >= kMostQueries) {
    lock.unlock();
    const absl::Status refused = absl::ResourceExhaustedError(
        fmt::format("database {}: {} queries wait for it already", state_->path, kMostQueries));
    work(refused).deliver();
    return;
  }
  state_->queries.push_back({state_->queue.last_sequence(), MonotonicNow(), std::move(work)});
  state_->reader_wake.notify_one();
  state_->writer_wake.notify_one();  // rows that were queued before it are due now
}

void SqliteStore::QueryEvents(EventQuery query, std::function<void(absl::StatusOr<std::vector<EventRow>>)> done) {
  Enqueue(MakeWork<std::vector<EventRow>>([query = std::move(query)](RowReader& rows) { return rows.Events(query); },
                                          std::move(done)));
}

void SqliteStore::QueryMetrics(MetricQuery query, std::function<void(absl::StatusOr<std::vector<MetricRow>>)> done) {
  Enqueue(MakeWork<std::vector<MetricRow>>([query = std::move(query)](RowReader& rows) { return rows.Metrics(query); },
                                           std::move(done)));
}

void SqliteStore::QueryUsage(MetricQuery query, std::function<void(absl::StatusOr<std::vector<UsageRow>>)> done) {
  Enqueue(MakeWork<std::vector<UsageRow>>([query = std::move(query)](RowReader& rows) { return rows.UsageOf(query); },
                                          std::move(done)));
}

void SqliteStore::QueryMetricSpan(SpanQuery query, std::function<void(absl::StatusOr<MetricSpan>)> done) {
  Enqueue(MakeWork<MetricSpan>([query = std::move(query)](RowReader& rows) { return rows.Span(query, WallNow()); },
                               std::move(done)));
}

void SqliteStore::QueryAlerts(AlertQuery query, std::function<void(absl::StatusOr<std::vector<AlertRow>>)> done) {
  Enqueue(MakeWork<std::vector<AlertRow>>([query](RowReader& rows) { return rows.Alerts(query); }, std::move(done)));
}

void SqliteStore::QueryRestarts(absl::Time since, std::function<void(absl::StatusOr<std::vector<RestartRow>>)> done) {
  Enqueue(
      MakeWork<std::vector<RestartRow>>([since](RowReader& rows) { return rows.Restarts(since); }, std::move(done)));
}

void SqliteStore::QueryServices(std::vector<std::string> ids,
                                std::function<void(absl::StatusOr<std::vector<ServiceRow>>)> done) {
  Enqueue(MakeWork<std::vector<ServiceRow>>([ids = std::move(ids)](RowReader& rows) { return rows.Services(ids); },
                                            std::move(done)));
}

void SqliteStore::QuerySummary(std::function<void(absl::StatusOr<StoreSummary>)> done) {
  Enqueue(MakeWork<StoreSummary>([](RowReader& rows) { return rows.Summary(WallNow()); }, std::move(done)));
}

}  // namespace supervisor
