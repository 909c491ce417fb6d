#include "daemon/store/row_ids.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace supervisor {
namespace {

constexpr std::array<std::string_view, 3> kNumberedTables = {"supervisor_events", "supervisor_metrics",
                                                             "supervisor_alerts"};

absl::StatusOr<std::optional<int64_t>> Number(SqliteDatabase& db, const std::string& sql, int64_t argument) {
  absl::StatusOr<SqliteStatement> statement = db.Prepare(sql.c_str());
  if (!statement.ok()) {
    return statement.status();
  }
  const absl::StatusOr<bool> row = statement->Bind(1, argument).Step();
  if (!row.ok()) {
    return row.status();
  }
  return *row && !statement->IsNull(0) ? std::optional(statement->Int(0)) : std::nullopt;
}

absl::StatusOr<int64_t> GreatestIdOfRows(SqliteDatabase& db, std::string_view table, int64_t below) {
  const auto id = Number(db, fmt::format("SELECT max(id) FROM {} WHERE id < ?1", table), below);
  if (!id.ok()) {
    return id.status();
  }
  return std::max<int64_t>(id->value_or(0), 0);
}

// The greatest id that the table has or ever had, as SQLite will see it; 0 where it is below kRepairFrom.
absl::StatusOr<int64_t> GreatestId(SqliteDatabase& db, std::string_view table, bool has_sequence) {
  const auto row =
      Number(db, fmt::format("SELECT max(id) FROM {} WHERE id >= ?1 AND typeof(id) = 'integer'", table), kRepairFrom);
  if (!row.ok() || row->has_value() || !has_sequence) {
    return row.ok() ? absl::StatusOr<int64_t>(row->value_or(0)) : row.status();
  }
  // A sequence may hold anything: SQLite reads it as an integer.
  const auto sequence = Number(db,
                               fmt::format("SELECT max(CAST(seq AS INTEGER)) FROM sqlite_sequence WHERE lower(name) = "
                                           "'{}' AND CAST(seq AS INTEGER) >= ?1",
                                           table),
                               kRepairFrom);
  if (!sequence.ok()) {
    return sequence.status();
  }
  return sequence->value_or(0);
}

// Upwards, so that an id is free by the time that a row gets it. Returns how many rows have a new one.
absl::StatusOr<int64_t> Renumber(SqliteDatabase& db, std::string_view table) {
  const absl::StatusOr<int64_t> last = GreatestIdOfRows(db, table, kRenumberFrom);
  absl::StatusOr<SqliteStatement> update =
      db.Prepare(fmt::format("UPDATE {} SET id = ?2 WHERE id = ?1", table).c_str());
  absl::StatusOr<SqliteStatement> find =
      db.Prepare(fmt::format("SELECT min(id) FROM {} WHERE id >= ?1", table).c_str());
  if (!last.ok() || !update.ok() || !find.ok()) {
    return !last.ok() ? last.status() : !update.ok() ? update.status() : find.status();
  }
  int64_t next = *last + 1;
  int64_t moved = 0;
  for (int64_t from = kRenumberFrom;; ++next) {
    int64_t id = 0;
    {
      const StatementReset reset(*find);
      const absl::StatusOr<bool> row = find->Bind(1, from).Step();
      if (!row.ok()) {
        return row.status();
      }
      if (!*row || find->IsNull(0)) {
        return moved;
      }
      id = find->Int(0);
    }
    if (id != next) {
      if (absl::Status status = update->Bind(1, id).Bind(2, next).Run(); !status.ok()) {
        return status;
      }
      ++moved;
    }
    if (id == std::numeric_limits<int64_t>::max()) {
      return moved;
    }
    from = id + 1;
  }
}

absl::Status SetSequence(SqliteDatabase& db, std::string_view table) {
  const absl::StatusOr<int64_t> last = GreatestIdOfRows(db, table, kRepairFrom);
  if (!last.ok()) {
    return last.status();
  }
  return db.Exec(fmt::format("UPDATE sqlite_sequence SET seq = {} WHERE lower(name) = '{}'", *last, table));
}

// "" where nothing is wrong with the table.
absl::StatusOr<std::string> RepairTable(SqliteDatabase& db, std::string_view table, bool has_sequence) {
  const absl::StatusOr<int64_t> greatest = GreatestId(db, table, has_sequence);
  if (!greatest.ok()) {
    return greatest.status();
  }
  if (*greatest < kRepairFrom) {
    return "";
  }
  const absl::StatusOr<int64_t> moved = Renumber(db, table);
  if (!moved.ok()) {
    return moved.status();
  }
  if (absl::Status status = has_sequence ? SetSequence(db, table) : absl::OkStatus(); !status.ok()) {
    return status;
  }
  return fmt::format("{} had come to the id {} ({} of its rows got new ids)", table, *greatest, *moved);
}

absl::StatusOr<std::string> RepairInTransaction(SqliteDatabase& db) {
  const absl::StatusOr<int64_t> has_sequence =
      db.FirstNumber("SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_sequence'");
  if (!has_sequence.ok()) {
    return has_sequence.status();
  }
  std::vector<std::string> repaired;
  for (const std::string_view table : kNumberedTables) {
    absl::StatusOr<std::string> words = RepairTable(db, table, *has_sequence > 0);
    if (!words.ok()) {
      return words.status();
    }
    if (!words->empty()) {
      repaired.push_back(*std::move(words));
    }
  }
  if (absl::Status status = db.Exec("COMMIT"); !status.ok()) {
    return status;
  }
  if (repaired.empty()) {
    return "";
  }
  return fmt::format(
      "database {}: {}; after 9223372036854775807 SQLite numbers no row. Another program wrote such an id; "
      "new rows go on with the ids before it",
      db.path(), fmt::join(repaired, ", "));
}

}  // namespace

absl::StatusOr<std::string> RepairRowIds(SqliteDatabase& db) {
  if (absl::Status status = db.Exec("BEGIN IMMEDIATE"); !status.ok()) {
    return status;
  }
  absl::StatusOr<std::string> repaired = RepairInTransaction(db);
  if (!repaired.ok() && db.InTransaction()) {
    db.Exec("ROLLBACK").IgnoreError();  // what went wrong is said by `repaired`
  }
  return repaired;
}

}  // namespace supervisor
