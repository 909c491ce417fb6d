#include "daemon/store/store_reader.h"

#include <fmt/format.h>

#include <utility>

#include "common/fail_point.h"
#include "common/time_format.h"
#include "daemon/store/db_file.h"

namespace supervisor {

StoreReader::StoreReader(std::shared_ptr<StoreState> state, std::shared_ptr<CallGate> gate)
    : state_(std::move(state)), gate_(std::move(gate)) {}

void StoreReader::Run() {
  std::unique_lock lock(state_->mutex);
  while (true) {
    std::deque<WaitingQuery>& queries = state_->queries;
    if (queries.empty()) {
      if (state_->stopping) {
        return;
      }
      state_->reader_wake.wait(lock);
    } else if (IsReady(queries.front())) {
      const WaitingQuery query = std::move(queries.front());
      queries.pop_front();
      lock.unlock();
      Answer(query);
      lock.lock();
    } else {
      WaitForWake(state_->reader_wake, lock, queries.front().asked + state_->tuning.query_patience);
    }
  }
}

bool StoreReader::IsReady(const WaitingQuery& query) const {
  return state_->stopping || state_->stuck || (state_->opened && state_->OldestUnwritten() > query.after_sequence) ||
         MonotonicNow() >= query.asked + state_->tuning.query_patience;
}

bool StoreReader::IsBeingOpened() const {
  const std::lock_guard lock(state_->mutex);
  return !state_->opened && !state_->stuck;
}

void StoreReader::Answer(const WaitingQuery& query) {
  QueryAnswer answer;
  {
    const std::lock_guard lock(connection_mutex_);
    answer = Read(query);
  }
  gate_->Call(answer.deliver);
}

QueryAnswer StoreReader::Read(const WaitingQuery& query) {
  if (state_
          ->stopping) {  // looked at under connection_mutex_: no connection is made after the writer's last Disconnect
    return query.work(absl::CancelledError(fmt::format("database {}: the daemon stops", state_->path)));
  }
  if (MonotonicNow() - query.asked >= state_->tuning.query_too_late) {
    return query.work(absl::DeadlineExceededError(
        fmt::format("database {}: other queries took {}", state_->path, FormatSpan(MonotonicNow() - query.asked))));
  }
  if (IsBeingOpened()) {  // indexes for what another program has written take their time, and without them so do
                          // queries
    return query.work(absl::UnavailableError(
        fmt::format("database {}: is still being opened: its tables and indexes are made", state_->path)));
  }
  FailPoint(FailPointId::kStoreAsked);
  const absl::Status connected = Connect();
  QueryAnswer answer = connected.ok() ? query.work(&connection_->rows) : query.work(connected);
  if (answer.status.ok() || absl::IsUnavailable(answer.status)) {
    return answer;
  }
  connection_.reset();
  if (absl::IsDataLoss(answer.status)) {
    // Noted while the connection is still locked, so the writer cannot have set this file aside before.
    const std::lock_guard lock(state_->mutex);
    state_->malformed = true;
    state_->writer_wake.notify_one();
  }
  return answer;
}

absl::Status StoreReader::Connect() {
  if (connection_.has_value()) {
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> path = ResolveDatabasePath(state_->path);
  if (!path.ok()) {
    return path.status();
  }
  absl::StatusOr<SqliteDatabase> db = SqliteDatabase::Open(*path, SqliteDatabase::Mode::kReadOnly);
  if (!db.ok()) {
    return db.status();
  }
  db->SetPatience([this](int count) { return WaitMore(count); }, [this] { return state_->stopping.load(); });
  if (absl::Status status = db->Exec("PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0; PRAGMA cache_size = -256");
      !status.ok()) {
    return status;
  }
  absl::StatusOr<RowReader> rows = RowReader::Prepare(*db);
  if (!rows.ok()) {
    return rows.status();
  }
  connection_.emplace(Connection{*std::move(db), *std::move(rows)});
  return absl::OkStatus();
}

bool StoreReader::WaitMore(int count) {
  if (count == 0) {
    lock_wait_began_ = MonotonicNow();
  }
  if (state_->stopping || MonotonicNow() - lock_wait_began_ >= state_->tuning.lock_patience) {
    return false;
  }
  std::unique_lock lock(state_->mutex);
  WaitForWake(state_->reader_wake, lock, MonotonicNow() + LockPause(count));
  return true;
}

std::unique_lock<std::mutex> StoreReader::Disconnect() {
  std::unique_lock lock(connection_mutex_);
  connection_.reset();
  return lock;
}

}  // namespace supervisor
