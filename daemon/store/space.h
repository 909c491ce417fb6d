#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "daemon/store/sqlite.h"

namespace supervisor {

// Gives the pages that deletion leaves behind back to the file system. SQLite keeps them for rows to come, so without
// this a file stays as large as it ever was (https://www.sqlite.org/pragma.html#pragma_auto_vacuum). One thread: the
// one that owns the connection.

struct SpaceLimits {
  int64_t step_pages = 256;         // given back in one transaction: 1 MiB, some milliseconds
  int64_t fewest_free_pages = 512;  // fewer are left for rows to come
  // A file that was made without auto_vacuum is rewritten once, if what it holds is no larger. More would keep the
  // write lock for too long.
  int64_t most_rewritten_bytes = int64_t{256} << 20;
};

// Lets the file give pages back step by step. Only an empty file can be told so; every other keeps its setting.
absl::Status PrepareForReturningSpace(SqliteDatabase& db);

enum class SpaceLeft {
  kNone,      // what is left is for rows to come
  kMore,      // another step gives back more
  kHeldBack,  // a reader still needs the end of the file, which gets shorter when that has ended
};

// Does one step.
absl::StatusOr<SpaceLeft> ReturnSpace(SqliteDatabase& db, const SpaceLimits& limits);

}  // namespace supervisor
