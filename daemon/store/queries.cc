#include "daemon/store/queries.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "daemon/store/row_text.h"
#include "daemon/store/schema.h"

namespace supervisor {
namespace {

constexpr int64_t kMostSpanSamples = 2'000'000;

EventRow EventOf(const SqliteStatement& row) {
  return {.id = row.Int(0),
          .service_id = row.Text(1),
          .event_type = row.Text(2),
          .timestamp = ParseTimestamp(row.Text(3)),
          .message = row.Text(4),
          .details = row.Text(5),
          .actor = row.Text(6)};
}

std::optional<double> OptionalDouble(const SqliteStatement& row, int column) {
  return row.IsNull(column) ? std::nullopt : std::optional(row.Double(column));
}

MetricRow MetricOf(const SqliteStatement& row) {
  return {.service_id = row.Text(0),
          .timestamp = ParseTimestamp(row.Text(1)),
          .cpu_percent = OptionalDouble(row, 2),
          .memory_mb = OptionalDouble(row, 3),
          .health_status = row.Text(4),
          .response_time_ms = OptionalDouble(row, 5)};
}

std::optional<int64_t> OptionalInt(const SqliteStatement& row, int column) {
  return row.IsNull(column) ? std::nullopt : std::optional(row.Int(column));
}

std::optional<absl::Time> OptionalTime(const SqliteStatement& row, int column) {
  return row.IsNull(column) ? std::nullopt : std::optional(ParseTimestamp(row.Text(column)));
}

UsageRow UsageRowOf(const SqliteStatement& row) {
  return {.service_id = row.Text(0),
          .timestamp = ParseTimestamp(row.Text(1)),
          .processes = row.Int(2),
          .descriptors = OptionalInt(row, 3),
          .read_bytes_per_second = OptionalDouble(row, 4),
          .written_bytes_per_second = OptionalDouble(row, 5)};
}

AlertRow AlertOf(const SqliteStatement& row) {
  return {.id = row.Int(0),
          .service_id = row.Text(1),
          .rule = row.Text(2),
          .severity = row.Text(3),
          .message = row.Text(4),
          .dependents = SplitList(row.Text(5)),
          .raised = ParseTimestamp(row.Text(6)),
          .resolved = OptionalTime(row, 7),
          .owed = SplitList(row.Text(8))};
}

RestartRow RestartOf(const SqliteStatement& row) {
  return {.service_id = row.Text(0), .timestamp = ParseTimestamp(row.Text(1))};
}

ServiceRow ServiceOf(const SqliteStatement& row) {
  return {.id = row.Text(0),
          .name = row.Text(1),
          .description = row.Text(2),
          .state = row.Text(3),
          .pid = OptionalInt(row, 4),
          .port = OptionalInt(row, 5),
          .start_time = OptionalTime(row, 6),
          .uptime_seconds = row.Int(7),
          .restart_count = row.Int(8),
          .last_restart = OptionalTime(row, 9),
          .priority = static_cast<int>(row.Int(10)),
          .critical = row.Int(11) != 0,
          .auto_restart = row.Int(12) != 0};
}

// Appends all rows of a bound statement, and resets it.
template <typename Row>
absl::Status Collect(SqliteStatement& statement, Row (*convert)(const SqliteStatement&), std::vector<Row>& rows) {
  const StatementReset reset(statement);
  while (true) {
    const absl::StatusOr<bool> row = statement.Step();
    if (!row.ok()) {
      return row.status();
    }
    if (!*row) {
      return absl::OkStatus();
    }
    rows.push_back(convert(statement));
  }
}

void KeepNewest(std::vector<EventRow>& rows, size_t limit) {
  std::ranges::sort(rows, std::ranges::greater(), &EventRow::id);
  rows.resize(std::min(rows.size(), limit));
}

}  // namespace

const std::vector<RowReader::Prepared>& RowReader::Statements() {
  static const auto* const statements = new std::vector<Prepared>{
      {&RowReader::events_, kSelectEvents},
      {&RowReader::events_in_span_, kSelectEventsInSpan},
      {&RowReader::events_of_service_, kSelectEventsOfService},
      {&RowReader::metrics_, kSelectMetrics},
      {&RowReader::health_, kSelectHealth},
      {&RowReader::usage_, kSelectUsage},
      {&RowReader::metric_span_, kSelectMetricSpan},
      {&RowReader::usage_span_, kSelectUsageSpan},
      {&RowReader::first_metric_, kSelectFirstMetric},
      {&RowReader::alerts_, kSelectAlerts},
      {&RowReader::open_alerts_, kSelectOpenAlerts},
      {&RowReader::owed_alerts_, kSelectOwedAlerts},
      {&RowReader::restarts_, kSelectRestarts},
      {&RowReader::services_, kSelectServices},
      {&RowReader::count_events_, kCountEventsSince},
      {&RowReader::count_alerts_, kCountOpenAlerts},
  };
  return *statements;
}

absl::StatusOr<RowReader> RowReader::Prepare(SqliteDatabase& db) {
  RowReader reader;
  for (const auto& [statement, sql] : Statements()) {
    absl::StatusOr<SqliteStatement> prepared = db.Prepare(sql);
    if (!prepared.ok()) {
      return prepared.status();
    }
    reader.*statement = *std::move(prepared);
  }
  return reader;
}

std::vector<std::string> RowReader::Sql() {
  std::vector<std::string> all;
  for (const Prepared& prepared : Statements()) {
    all.emplace_back(prepared.second);
  }
  return all;
}

absl::StatusOr<std::vector<EventRow>> RowReader::Events(const Store::EventQuery& query) {
  const size_t limit = std::min(query.limit, kMaxQueryRows);
  const std::string types = query.types.empty() ? "" : fmt::format(",{},", fmt::join(query.types, ","));
  const bool has_span = query.since != absl::InfinitePast() || query.until != absl::InfiniteFuture();
  int64_t after = std::max<int64_t>(query.after_id.value_or(0), 0);
  std::vector<EventRow> rows;  // newest first, until the end
  const auto collect = [&](SqliteStatement& statement, const std::string& service_id) {
    statement.Bind(1, after).Bind(2, static_cast<int64_t>(limit)).Bind(3, service_id).Bind(6, types);
    // Without a bound all are meant, also those whose time another program wrote as a number.
    if (has_span) {
      statement.Bind(4, TimestampLowerBound(query.since)).Bind(5, TimestampUpperBound(query.until));
    } else {
      statement.BindNull(4).BindNull(5);
    }
    return Collect(statement, EventOf, rows);
  };
  if (query.service_ids.empty()) {
    if (absl::Status status = collect(has_span ? events_in_span_ : events_, ""); !status.ok()) {
      return status;
    }
    KeepNewest(rows, limit);
  }
  // Service by service, each by the index. Once there are enough, the oldest of them bounds what the others may add.
  for (const std::string& id : std::set<std::string>(query.service_ids.begin(), query.service_ids.end())) {
    if (absl::Status status = collect(events_of_service_, id); !status.ok()) {
      return status;
    }
    KeepNewest(rows, limit);
    if (!rows.empty() && rows.size() == limit) {
      after = rows.back().id;
    }
  }
  std::ranges::reverse(rows);
  return rows;
}

absl::StatusOr<std::vector<MetricRow>> RowReader::Metrics(const Store::MetricQuery& query) {
  SqliteStatement& statement = query.health_only ? health_ : metrics_;
  statement.Bind(1, query.service_id)
      .Bind(2, TimestampLowerBound(query.since))
      .Bind(3, TimestampUpperBound(query.until))
      .Bind(4, static_cast<int64_t>(std::min(query.limit, kMaxQueryRows)));
  std::vector<MetricRow> rows;
  if (absl::Status status = Collect(statement, MetricOf, rows); !status.ok()) {
    return status;
  }
  std::ranges::reverse(rows);
  return rows;
}

absl::StatusOr<std::vector<UsageRow>> RowReader::UsageOf(const Store::MetricQuery& query) {
  usage_.Bind(1, query.service_id)
      .Bind(2, TimestampLowerBound(query.since))
      .Bind(3, TimestampUpperBound(query.until))
      .Bind(4, static_cast<int64_t>(std::min(query.limit, kMaxQueryRows)));
  std::vector<UsageRow> rows;
  if (absl::Status status = Collect(usage_, UsageRowOf, rows); !status.ok()) {
    return status;
  }
  std::ranges::reverse(rows);
  return rows;
}

absl::StatusOr<MetricSpan> RowReader::Span(const Store::SpanQuery& query, absl::Time now) {
  absl::Time since = query.since;
  if (since == absl::InfinitePast()) {
    const StatementReset reset(first_metric_);
    const absl::StatusOr<bool> row = first_metric_.Bind(1, query.service_id).Step();
    if (!row.ok()) {
      return row.status();
    }
    since = *row ? ParseTimestamp(first_metric_.Text(0)) : now;
  }
  // What is measured while this is read belongs to it; a clock that was set back hides nothing.
  const absl::Time until = std::min(query.until, std::max(now, since) + absl::Minutes(1));
  SpanBuilder builder(since, until, query.most_points);
  // column_of[i]: of Metric i in the statement, -1 where it has none.
  const auto collect = [&](SqliteStatement& statement, const std::array<int, kMetricCount>& column_of,
                           int health_column) -> absl::Status {
    const StatementReset reset(statement);
    statement.Bind(1, query.service_id)
        .Bind(2, TimestampLowerBound(since))
        .Bind(3, TimestampUpperBound(until))
        .Bind(4, kMostSpanSamples);
    while (true) {
      const absl::StatusOr<bool> row = statement.Step();
      if (!row.ok() || !*row) {
        return row.status();
      }
      MetricValues values;
      for (size_t i = 0; i < kMetricCount; ++i) {
        if (column_of[i] >= 0 && !statement.IsNull(column_of[i])) {
          values[i] = statement.Double(column_of[i]);
        }
      }
      builder.Add(ParseTimestamp(statement.View(0)), values,
                  health_column >= 0 ? statement.View(health_column) : std::string_view());
    }
  };
  absl::Status status = collect(metric_span_, {1, 2, 3, -1, -1, -1, -1}, 4);
  if (status.ok()) {
    status = collect(usage_span_, {-1, -1, -1, 1, 2, 3, 4}, -1);
  }
  if (!status.ok()) {
    return status;
  }
  return builder.Finish();
}

absl::StatusOr<std::vector<AlertRow>> RowReader::Alerts(const Store::AlertQuery& query) {
  SqliteStatement& ours = query.include_resolved ? alerts_ : open_alerts_;
  SqliteStatement& statement = query.only_owed ? owed_alerts_ : ours;
  statement.Bind(1, static_cast<int64_t>(std::min(query.limit, kMaxQueryRows)));
  std::vector<AlertRow> rows;
  if (absl::Status status = Collect(statement, AlertOf, rows); !status.ok()) {
    return status;
  }
  std::ranges::reverse(rows);
  return rows;
}

absl::StatusOr<std::vector<RestartRow>> RowReader::Restarts(absl::Time since) {
  restarts_.Bind(1, TimestampLowerBound(since)).Bind(2, static_cast<int64_t>(kMaxQueryRows));
  std::vector<RestartRow> rows;
  if (absl::Status status = Collect(restarts_, RestartOf, rows); !status.ok()) {
    return status;
  }
  return rows;
}

absl::StatusOr<std::vector<ServiceRow>> RowReader::Services(const std::vector<std::string>& ids) {
  std::vector<ServiceRow> rows;
  if (absl::Status status = Collect(services_, ServiceOf, rows); !status.ok()) {
    return status;
  }
  if (!ids.empty()) {
    std::erase_if(rows, [&](const ServiceRow& row) { return std::ranges::count(ids, row.id) == 0; });
  }
  return rows;
}

absl::StatusOr<StoreSummary> RowReader::Summary(absl::Time now) {
  const absl::StatusOr<std::vector<ServiceRow>> services = Services({});
  if (!services.ok()) {
    return services.status();
  }
  StoreSummary summary;
  for (const ServiceRow& row : *services) {
    if (row.id != kSupervisorServiceId) {
      ++summary.services_by_state[row.state];
      summary.restarts += row.restart_count;
    }
  }
  const StatementReset reset_alerts(count_alerts_);
  const absl::StatusOr<bool> alerts = count_alerts_.Step();
  if (!alerts.ok()) {
    return alerts.status();
  }
  summary.open_alerts = *alerts ? count_alerts_.Int(0) : 0;
  const StatementReset reset_events(count_events_);
  count_events_.Bind(1, TimestampLowerBound(now - absl::Hours(24))).Bind(2, static_cast<int64_t>(kMaxQueryRows));
  const absl::StatusOr<bool> events = count_events_.Step();
  if (!events.ok()) {
    return events.status();
  }
  if (*events) {
    summary.events_last_day = count_events_.Int(0);
    summary.last_event = OptionalTime(count_events_, 1);
  }
  return summary;
}

}  // namespace supervisor
