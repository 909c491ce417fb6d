#include "daemon/store/space.h"

#include <fmt/format.h>

#include "daemon/store/schema.h"

namespace supervisor {
namespace {

// What PRAGMA auto_vacuum answers.
enum AutoVacuum : int64_t { kNone = 0, kFull = 1, kIncremental = 2 };

struct Space {
  int64_t pages = 0;
  int64_t free_pages = 0;
  int64_t page_bytes = 0;
  int64_t auto_vacuum = kNone;
};

absl::StatusOr<Space> Measure(SqliteDatabase& db) {
  Space space;
  for (const auto& [sql, value] :
       {std::pair("PRAGMA page_count", &space.pages), std::pair("PRAGMA freelist_count", &space.free_pages),
        std::pair("PRAGMA page_size", &space.page_bytes), std::pair("PRAGMA auto_vacuum", &space.auto_vacuum)}) {
    const absl::StatusOr<int64_t> number = db.FirstNumber(sql);
    if (!number.ok()) {
      return number.status();
    }
    *value = *number;
  }
  return space;
}

// An eighth of the file is left for rows to come: retention and new rows keep a steady file in balance.
bool IsWorthReturning(const Space& space, const SpaceLimits& limits) {
  return space.free_pages > limits.fewest_free_pages && space.free_pages > space.pages / 8;
}

// VACUUM changes the whole file, so it is done only where no other program keeps tables.
absl::Status Rewrite(SqliteDatabase& db, const Space& space, const SpaceLimits& limits) {
  const absl::StatusOr<bool> is_ours = IsOursAlone(db);
  if (!is_ours.ok()) {
    return is_ours.status();
  }
  if (!*is_ours || (space.pages - space.free_pages) * space.page_bytes > limits.most_rewritten_bytes) {
    return absl::OkStatus();
  }
  return db.Exec("PRAGMA auto_vacuum = INCREMENTAL; VACUUM");
}

// The file itself gets shorter when the whole write-ahead log has been moved into it.
SpaceLeft Shorten(SqliteDatabase& db) { return db.MoveWalIntoFile() ? SpaceLeft::kNone : SpaceLeft::kHeldBack; }

}  // namespace

absl::Status PrepareForReturningSpace(SqliteDatabase& db) {
  const absl::StatusOr<int64_t> pages = db.FirstNumber("PRAGMA page_count");
  if (!pages.ok()) {
    return pages.status();
  }
  return *pages == 0 ? db.Exec("PRAGMA auto_vacuum = INCREMENTAL") : absl::OkStatus();
}

absl::StatusOr<SpaceLeft> ReturnSpace(SqliteDatabase& db, const SpaceLimits& limits) {
  const absl::StatusOr<Space> before = Measure(db);
  if (!before.ok()) {
    return before.status();
  }
  if (before->auto_vacuum == kFull || !IsWorthReturning(*before, limits)) {
    return db.FileBytes() > before->pages * before->page_bytes ? Shorten(db) : SpaceLeft::kNone;
  }
  const absl::Status status = before->auto_vacuum == kNone
                                  ? Rewrite(db, *before, limits)
                                  : db.Exec(fmt::format("PRAGMA incremental_vacuum({})", limits.step_pages));
  if (!status.ok()) {
    return status;
  }
  const absl::StatusOr<Space> after = Measure(db);
  if (!after.ok()) {
    return after.status();
  }
  return after->auto_vacuum == kIncremental && IsWorthReturning(*after, limits) ? SpaceLeft::kMore : Shorten(db);
}

}  // namespace supervisor
