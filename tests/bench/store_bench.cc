// How the store does under load. Run by hand, on a machine that does nothing else, with a release build:
//
//     build/release/tests/store_bench [rows]     default 10,000,000, in a directory below $SCENARIO_DIR, $TMPDIR or
//     /tmp
//
// It says what it costs to write 10,000 rows of metrics a second, how long an existing database of so many rows of
// metrics and as many of events takes to be taken over, and how long every query takes on it. Numbers are for people to
// judge; nothing fails by them.

#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <string>
#include <vector>

#include "common/clock.h"
#include "daemon/store/store.h"
#include "tests/daemon/store/contract_sql.h"

namespace supervisor {
namespace {

constexpr int kServices = 100;
constexpr int kRate = 10'000;
constexpr int kSeconds = 5;

absl::Duration CpuOfProcess() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return absl::DurationFromTimeval(usage.ru_utime) + absl::DurationFromTimeval(usage.ru_stime);
}

// The best of some rounds. What the machine does besides shows in the time, and hardly in the processor's.
struct Cost {
  absl::Duration time = absl::InfiniteDuration();
  absl::Duration cpu = absl::InfiniteDuration();
};

template <typename Result, typename Ask>
Cost TimeOf(Ask ask, size_t* rows) {
  Cost best;
  for (int round = 0; round < 5; ++round) {
    std::promise<absl::StatusOr<Result>> answer;
    const MonoTime began = MonotonicNow();
    const absl::Duration cpu = CpuOfProcess();
    ask([&](absl::StatusOr<Result> result) { answer.set_value(std::move(result)); });
    const absl::StatusOr<Result> result = answer.get_future().get();
    best = {std::min(best.time, MonotonicNow() - began), std::min(best.cpu, CpuOfProcess() - cpu)};
    if (!result.ok()) {
      fmt::print("  failed: {}\n", std::string(result.status().message()));
      return best;
    }
    if constexpr (requires { result->size(); }) {
      *rows = result->size();
    } else if constexpr (requires { result->points; }) {
      *rows = result->summaries[0].samples;
    }
  }
  return best;
}

void Say(const std::string& what, const Cost& cost, size_t rows = 0) {
  fmt::print("{:<64} {:>10.2f} ms, {:>6.2f} ms CPU{}\n", what, absl::ToDoubleMilliseconds(cost.time),
             absl::ToDoubleMilliseconds(cost.cpu), rows > 0 ? fmt::format("  ({} rows)", rows) : "");
}

void Say(const std::string& what, absl::Duration took) {
  fmt::print("{:<64} {:>10.2f} ms\n", what, absl::ToDoubleMilliseconds(took));
}

std::unique_ptr<Store> OpenStore(const std::string& path) {
  Store::Options options;
  options.path = path;
  options.metrics_retention = absl::ZeroDuration();
  options.events_retention = absl::ZeroDuration();
  return *Store::Open(
      options, [](const std::vector<EventRow>&) {},
      [](const std::string& trouble) { fmt::print("  trouble: {}\n", trouble); });
}

// Two in a hundred of what ever was raised are open.
void FillAlerts(Store& store, int count) {
  const absl::Time now = WallNow();
  for (int i = 0; i < count; ++i) {
    AlertRow row;
    row.service_id = fmt::format("s{}", i % kServices);
    row.rule = fmt::format("rule{}", i / kServices);
    row.severity = "warning";
    row.message = "x";
    row.raised = now;
    if (i % 50 == 0) {
      store.RaiseAlert(row);
    } else {
      row.resolved = now;
      store.ResolveAlert(row);
    }
  }
}

// 10,000 rows a second, in the portions that services' samples come in.
void BenchWriting(const std::string& path) {
  const auto store = OpenStore(path);
  const MonoTime began = MonotonicNow();
  const absl::Duration cpu = CpuOfProcess();
  constexpr int kPortions = 100;  // a second
  for (int portion = 0; portion < kSeconds * kPortions; ++portion) {
    const MonoTime due = began + absl::Seconds(1) * portion / kPortions;
    while (MonotonicNow() < due) {
      usleep(500);
    }
    const absl::Time now = WallNow();
    for (int i = 0; i < kRate / kPortions; ++i) {
      store->RecordMetrics({.service_id = fmt::format("s{}", i % kServices),
                            .timestamp = now,
                            .cpu_percent = 1.5,
                            .memory_mb = 20.25,
                            .health_status = "healthy",
                            .response_time_ms = std::nullopt});
    }
  }
  size_t rows = 0;
  TimeOf<std::vector<EventRow>>([&](auto done) { store->QueryEvents({}, done); }, &rows);
  const absl::Duration took = MonotonicNow() - began;
  fmt::print("{:<64} {:>10.1f} % of a core, {} rows dropped, all on disk after {:.2f} s\n",
             fmt::format("writing {} rows of metrics a second for {} s", kRate, kSeconds),
             100 * absl::FDivDuration(CpuOfProcess() - cpu, took), store->Stats().dropped_rows,
             absl::ToDoubleSeconds(took));
}

void Fill(const std::string& path, int64_t rows) {
  sqlite3* db = nullptr;
  sqlite3_open(path.c_str(), &db);
  const std::string sql =
      std::string(kContractSql) +
      fmt::format(
          "PRAGMA synchronous = OFF; BEGIN;"
          "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT {0}) "
          "INSERT INTO supervisor_services (id, name, state) SELECT 's' || i, 's' || i, 'running' FROM n;"
          "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT {1}) "
          "INSERT INTO supervisor_metrics (service_id, timestamp, cpu_percent, memory_mb, health_status, "
          "response_time_ms) SELECT 's' || (i % {0}), strftime('%Y-%m-%d %H:%M:%f', 'now', '-7 days', "
          "(i * 604800.0 / {1}) || ' seconds'), i % 97, i % 1013, 'healthy', CASE WHEN i % 3 = 0 THEN i % 50 END FROM "
          "n;"
          "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT {2}) "
          "INSERT INTO supervisor_events (service_id, event_type, timestamp, message, details) SELECT 's' || (i % "
          "{0}), "
          "'started', strftime('%Y-%m-%d %H:%M:%f', 'now', '-7 days', (i * 604800.0 / {2}) || ' seconds'), 'x', '{{}}' "
          "FROM n;"
          "COMMIT",
          kServices, rows, rows);
  char* error = nullptr;
  if (sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &error) != SQLITE_OK) {
    fmt::print("  cannot fill: {}\n", error);
  }
  sqlite3_close(db);
}

void BenchQueries(const std::string& path, int64_t rows) {
  MonoTime began = MonotonicNow();
  Fill(path, rows);
  Say(fmt::format("another program fills it with {} rows", rows), MonotonicNow() - began);
  began = MonotonicNow();
  const auto store = OpenStore(path);
  size_t count = 0;
  EventRow mark;
  mark.service_id = "s1";
  mark.event_type = "restarting";
  mark.timestamp = WallNow();
  store->LogEvent(mark);
  FillAlerts(*store, static_cast<int>(std::min<int64_t>(rows / 100, 20'000)));
  // Queries do not wait for more than two seconds for what was queued before them: until the mark is there.
  while (store->Stats().queued_rows > 0) {
    usleep(10'000);
  }
  Say("it is taken over: indexes made", MonotonicNow() - began);
  const absl::Time now = WallNow();
  const auto span = [&](absl::Duration length, size_t points) {
    return TimeOf<MetricSpan>(
        [&](auto done) {
          store->QueryMetricSpan({.service_id = "s7", .since = now - length, .until = now, .most_points = points},
                                 done);
        },
        &count);
  };
  for (const auto& [name, length] :
       {std::pair("hour", absl::Hours(1)), std::pair("day", absl::Hours(24)), std::pair("week", absl::Hours(24 * 7))}) {
    const Cost took = span(length, 500);
    Say(fmt::format("metrics of a service over a {}, 500 points and summary", name), took, count);
  }
  Cost took = TimeOf<std::vector<MetricRow>>(
      [&](auto done) { store->QueryMetrics({.service_id = "s7", .limit = 500, .health_only = true}, done); }, &count);
  Say("the last 500 results of checks of a service", took, count);
  took = TimeOf<std::vector<EventRow>>([&](auto done) { store->QueryEvents({.limit = 50}, done); }, &count);
  Say("the last 50 events", took, count);
  took = TimeOf<std::vector<EventRow>>(
      [&](auto done) { store->QueryEvents({.service_ids = {"s7"}, .limit = 50}, done); }, &count);
  Say("the last 50 events of a service", took, count);
  took = TimeOf<std::vector<EventRow>>(
      [&](auto done) { store->QueryEvents({.after_id = rows / 2, .limit = 50}, done); }, &count);
  Say("the last 50 events after one in the middle", took, count);
  took = TimeOf<std::vector<AlertRow>>([&](auto done) { store->QueryAlerts({}, done); }, &count);
  Say("open alerts", took);
  took = TimeOf<std::vector<AlertRow>>(
      [&](auto done) { store->QueryAlerts({.include_resolved = true, .limit = 500}, done); }, &count);
  Say("the last 500 alerts of the history", took, count);
  took =
      TimeOf<std::vector<RestartRow>>([&](auto done) { store->QueryRestarts(now - absl::Minutes(5), done); }, &count);
  Say("restarts within five minutes, which a daemon begins with", took, count);
  took = TimeOf<std::vector<ServiceRow>>([&](auto done) { store->QueryServices({}, done); }, &count);
  Say("all services", took, count);
  took = TimeOf<StoreSummary>([&](auto done) { store->QuerySummary(done); }, &count);
  Say("dashboard summary", took);
}

}  // namespace
}  // namespace supervisor

int main(int argc, char** argv) {
  const char* place = std::getenv("SCENARIO_DIR");
  std::string directory =
      (place != nullptr ? place : std::filesystem::temp_directory_path().string()) + "/store-bench-XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) {
    fmt::print("cannot make {}\n", directory);
    return 1;
  }
  supervisor::BenchWriting(directory + "/writing.db");
  supervisor::BenchQueries(directory + "/queries.db", argc > 1 ? std::atoll(argv[1]) : 10'000'000);
  std::filesystem::remove_all(directory);
  return 0;
}
