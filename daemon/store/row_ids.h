#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/store/sqlite.h"

namespace supervisor {

// Keeps the ids of events, metrics and alerts below SQLite's greatest, 2^63 - 1. An AUTOINCREMENT table that has once
// held that id takes no row any more: each INSERT fails with SQLITE_FULL, also after the row was deleted, because
// sqlite_sequence keeps the maximum. Counting never leads there. A row that another program writes does, and so does a
// sequence that it sets.
//
// Ids beyond kMostPossibleId are impossible, and a repair gives new ids to all rows from kRenumberFrom on. The distance
// between the two is room: whatever ids the other rows have, some 2^61 rows fit in before the next repair. A repair is
// due from kRepairFrom on: a transaction that was rolled back for want of ids may have begun that far below.
inline constexpr int64_t kRenumberFrom = int64_t{1} << 62;
inline constexpr int64_t kMostPossibleId = kRenumberFrom + (int64_t{1} << 61);
inline constexpr int64_t kRepairFrom = kMostPossibleId - (int64_t{1} << 32);

// Gives rows with impossible ids the next possible ones, in the same order, and sets sqlite_sequence right, in one
// transaction. Changes nothing else of a row, and no other program's table. Returns in words what was found and done,
// "" if all ids are possible. REQUIRES: no transaction is open.
absl::StatusOr<std::string> RepairRowIds(SqliteDatabase& db);

}  // namespace supervisor
