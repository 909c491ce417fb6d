#include "daemon/store/store.h"

#include <sqlite3.h>

#include <utility>

#include "daemon/store/sqlite_store.h"

namespace supervisor {

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const Options& options, CommittedCallback on_committed,
                                                   TroubleCallback on_trouble) {
  return SqliteStore::Open(options, StoreTuning{}, std::move(on_committed), std::move(on_trouble));
}

const char* Store::SqliteVersion() { return sqlite3_libversion(); }

}  // namespace supervisor
