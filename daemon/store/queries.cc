#include "daemon/store/queries.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "daemon/store/row_text.h"

namespace supervisor {
namespace {

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

absl::StatusOr<RowReader> RowReader::Prepare(SqliteDatabase& db) {
  RowReader reader;
  const std::vector<std::pair<SqliteStatement*, const char*>> statements = {
      {&reader.events_, kSelectEvents},
      {&reader.events_of_service_, kSelectEventsOfService},
      {&reader.metrics_, kSelectMetrics},
      {&reader.health_, kSelectHealth},
  };
  for (const auto& [statement, sql] : statements) {
    absl::StatusOr<SqliteStatement> prepared = db.Prepare(sql);
    if (!prepared.ok()) {
      return prepared.status();
    }
    *statement = *std::move(prepared);
  }
  return reader;
}

absl::StatusOr<std::vector<EventRow>> RowReader::Events(const Store::EventQuery& query) {
  const size_t limit = std::min(query.limit, kMaxQueryRows);
  int64_t after = std::max<int64_t>(query.after_id.value_or(0), 0);
  std::vector<EventRow> rows;  // newest first, until the end
  if (query.service_ids.empty()) {
    events_.Bind(1, after).Bind(2, static_cast<int64_t>(limit));
    if (absl::Status status = Collect(events_, EventOf, rows); !status.ok()) {
      return status;
    }
  }
  // Service by service, each by the index. Once there are enough, the oldest of them bounds what the others may add.
  for (const std::string& id : std::set<std::string>(query.service_ids.begin(), query.service_ids.end())) {
    events_of_service_.Bind(1, after).Bind(2, static_cast<int64_t>(limit)).Bind(3, id);
    if (absl::Status status = Collect(events_of_service_, EventOf, rows); !status.ok()) {
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

}  // namespace supervisor
