#include "daemon/store/store_writer.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "daemon/store/row_ids.h"
#include "daemon/store/schema.h"
#include "daemon/store/space.h"

namespace supervisor {
namespace {

// Small, for a daemon that is to fit a small machine: a batch touches a few dozen pages. The write-ahead log is cut
// back to journal_size_limit after a checkpoint that emptied it; SQLite checkpoints by itself every 1000 pages (4 MiB).
constexpr char kConnectionSettings[] =
    "PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0; PRAGMA cache_size = -256; PRAGMA secure_delete = FAST;"
    "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 4194304;"
    // Where the file system cannot do WAL (no shared memory) SQLite stays with the rollback journal, which works too.
    "PRAGMA journal_mode = WAL";

// Backlogs that leave so much memory behind that it is worth handing back.
constexpr size_t kLongBacklog = 5000;

// fmt does not know absl::string_view.
std::string Words(const absl::Status& status) { return std::string(status.message()); }

bool NeedsNewConnection(const absl::Status& status) {
  return !absl::IsUnavailable(status) && !absl::IsResourceExhausted(status);
}

}  // namespace

StoreWriter::StoreWriter(std::shared_ptr<StoreState> state, std::shared_ptr<StoreReader> reader,
                         std::shared_ptr<CallGate> gate, Store::CommittedCallback on_committed,
                         Store::TroubleCallback on_trouble)
    : state_(std::move(state)),
      reader_(std::move(reader)),
      gate_(std::move(gate)),
      on_committed_(std::move(on_committed)),
      on_trouble_(std::move(on_trouble)),
      attempt_at_(MonotonicNow()),
      backoff_(state_->tuning.retry_first),
      retain_at_(MonotonicNow() + state_->tuning.retention_first) {}

void StoreWriter::Run() {
  while (true) {
    switch (WaitForWork()) {
      case Work::kWrite:
        Write();
        break;
      case Work::kPublish:
        PublishUnwritten();
        break;
      case Work::kRetain:
        Retain();
        break;
      case Work::kStop:
        Finish();
        return;
    }
  }
}

// ---------------------------------------------------------------------------------------------------- what is due

StoreWriter::Work StoreWriter::WaitForWork() {
  std::unique_lock lock(state_->mutex);
  while (true) {
    if (state_->stopping && !stop_seen_) {
      stop_seen_ = true;
      attempt_at_ = std::min(attempt_at_, MonotonicNow());  // whatever back-off there was: now or never
      backoff_ = state_->tuning.retry_first;
    }
    if (std::exchange(state_->clean_up_now, false)) {
      retain_at_ = MonotonicNow();
    }
    if (std::exchange(state_->retention_changed, false)) {
      retain_at_ = std::min(retain_at_, MonotonicNow() + state_->tuning.retention_first);
    }
    if (const std::optional<Work> work = DueWork(MonotonicNow()); work.has_value()) {
      return *work;
    }
    WaitForWake(state_->writer_wake, lock, NextDeadline());
  }
}

std::optional<StoreWriter::Work> StoreWriter::DueWork(MonoTime now) {
  const bool nothing_left = attempted_ && state_->queue.empty() && in_flight_.empty();
  if (stop_seen_ && (nothing_left || given_up_ || now >= state_->stop_deadline)) {
    return Work::kStop;
  }
  if (now >= attempt_at_ || state_->malformed) {
    return Work::kWrite;
  }
  if (attempt_at_ != kNoDeadline) {  // nothing can be written before that
    return state_->queue.HasUnpublishedEvents() ? std::optional(Work::kPublish) : std::nullopt;
  }
  const bool retention_due = now >= retain_at_ && !stop_seen_;
  const bool rows_due = !state_->queue.empty() &&
                        (now >= state_->write_at || !state_->queries.empty() || !state_->waiting_for_write.empty() ||
                         stop_seen_ || state_->queue.rows() >= state_->tuning.batch_rows);
  if (retention_due && !(rows_due && retained_last_)) {
    retained_last_ = true;
    return Work::kRetain;
  }
  if (rows_due) {
    retained_last_ = false;
    return Work::kWrite;
  }
  return std::nullopt;
}

MonoTime StoreWriter::NextDeadline() const {
  if (attempt_at_ != kNoDeadline) {
    return std::min(attempt_at_, state_->stop_deadline);
  }
  return state_->queue.empty() ? retain_at_ : std::min(retain_at_, state_->write_at);
}

// ------------------------------------------------------------------------------------------------------- writing

void StoreWriter::Write() {
  attempted_ = true;
  if (absl::Status status = TryWrite(); !status.ok()) {
    Fail(status);
  }
}

absl::Status StoreWriter::TryWrite() {
  bool malformed = false;
  {
    const std::lock_guard lock(state_->mutex);
    malformed = std::exchange(state_->malformed, false);
  }
  if (malformed && connection_.has_value()) {  // without a connection the file is about to speak for itself
    return absl::DataLossError(fmt::format("database {}: a query found it malformed (SQLITE_CORRUPT)", state_->path));
  }
  if (absl::Status status = Open(); !status.ok()) {
    return status;
  }
  return TakeAndWrite();
}

absl::Status StoreWriter::Open() {
  if (IsReplaced()) {
    LeaveReplacedFile();
  }
  if (!connection_.has_value()) {
    if (absl::Status status = Connect(); !status.ok()) {
      connection_.reset();
      return status;
    }
  }
  FollowAccess();
  return restore_ ? Restore() : absl::OkStatus();
}

// Somebody has given another user or group the right to read, or taken it away.
void StoreWriter::FollowAccess() {
  const std::optional<DbFileAccess> access = AccessOf(connection_->path);
  if (access.has_value() && access != access_) {
    MatchSideFiles(connection_->path, *access);
    access_ = access;
  }
}

bool StoreWriter::IsReplaced() const {
  return connection_.has_value() && IdentifyFile(connection_->path) != connection_->identity;
}

absl::Status StoreWriter::Connect() {
  absl::StatusOr<std::string> path = ResolveDatabasePath(state_->path);
  if (!path.ok()) {
    return path.status();
  }
  absl::StatusOr<FileIdentity> identity = CreateDatabaseFile(*path, access_);
  if (!identity.ok()) {
    return identity.status();
  }
  absl::StatusOr<SqliteDatabase> db = SqliteDatabase::Open(*path, SqliteDatabase::Mode::kReadWrite);
  if (!db.ok()) {
    return db.status();
  }
  if (IdentifyFile(*path) != *identity) {
    return absl::UnavailableError(fmt::format("database {}: was replaced while it was opened", *path));
  }
  if (db->IsReadOnly()) {
    return absl::PermissionDeniedError(
        fmt::format("database {}: the file or its file system is read-only (SQLITE_READONLY)", *path));
  }
  db->SetPatience([this](int count) { return WaitMore(count); }, [this] { return state_->StopTimeIsUp(); });
  if (absl::Status status = PrepareForReturningSpace(*db); !status.ok()) {
    return status;
  }
  if (absl::Status status = db->Exec(kConnectionSettings); !status.ok()) {
    return status;
  }
  const absl::StatusOr<bool> fresh = EnsureSchema(*db, WallNow());
  if (!fresh.ok()) {
    return fresh.status();
  }
  restore_ = restore_ || *fresh;
  const absl::StatusOr<std::string> repaired = RepairRowIds(*db);
  if (!repaired.ok()) {
    return repaired.status();
  }
  absl::StatusOr<RowWriter> rows = RowWriter::Prepare(*db);
  if (!rows.ok()) {
    return rows.status();
  }
  connection_.emplace(Connection{*std::move(db), *std::move(rows), *std::move(path), *identity});
  if (const std::optional<DbFileAccess> access = AccessOf(connection_->path)) {
    MatchSideFiles(connection_->path, *access);  // a killed daemon may have left them
  }
  if (!repaired->empty()) {
    ReportRepair(*repaired);
  }
  return absl::OkStatus();
}

// Another file is in place of the one that was written, new or somebody's backup: it is told what holds now.
absl::Status StoreWriter::Restore() {
  StoreBatch batch;
  batch.services = last_known_;
  if (!last_known_.empty()) {
    batch.keep.emplace();
    std::ranges::transform(last_known_, std::inserter(*batch.keep, batch.keep->end()),
                           [](const auto& known) { return known.first; });
  }
  for (const auto& [key, alert] : open_alerts_) {
    batch.alerts.push_back(alert);
  }
  if (batch.empty()) {
    restore_ = false;
    return absl::OkStatus();
  }
  if (const auto outcome = connection_->rows.Write(connection_->db, batch, WallNow()); !outcome.ok()) {
    return outcome.status();
  }
  restore_ = false;
  return absl::OkStatus();
}

absl::Status StoreWriter::TakeAndWrite() {
  if (in_flight_.empty()) {
    const std::lock_guard lock(state_->mutex);
    longest_backlog_ = std::max(longest_backlog_, state_->queue.rows());
    in_flight_ = state_->queue.Take(state_->tuning.batch_rows);
    state_->queue.SetInFlight(in_flight_.rows());
    state_->in_flight_sequence = in_flight_.first_sequence;
    const MonoTime now = MonotonicNow();
    state_->last_write = now;
    state_->write_at = state_->queue.empty() ? kNoDeadline : now;
  }
  BatchOutcome outcome;
  if (!in_flight_.empty()) {
    absl::StatusOr<BatchOutcome> written = connection_->rows.Write(connection_->db, in_flight_, WallNow());
    if (!written.ok()) {
      return written.status();
    }
    outcome = *std::move(written);
  }
  Committed(outcome);
  return absl::OkStatus();
}

void StoreWriter::Committed(const BatchOutcome& outcome) {
  Remember();
  std::vector<EventRow> rows;
  for (QueuedEvent& event : in_flight_.events) {
    event.row.late = event.published;
    rows.push_back(std::move(event.row));
  }
  in_flight_ = {};
  attempt_at_ = kNoDeadline;
  backoff_ = state_->tuning.retry_first;
  bool drained = false;
  {
    const std::lock_guard lock(state_->mutex);
    state_->queue.SetInFlight(0);
    state_->queue.CountDropped(outcome.refused_rows);
    state_->in_flight_sequence = StoreQueue::kNothingWaits;
    state_->opened = true;
    drained = state_->queue.empty();
    state_->reader_wake.notify_all();
  }
  Publish(std::move(rows));
  Report(outcome.first_refusal.ok() ? "" : fmt::format("{}; the row is not kept", Words(outcome.first_refusal)),
         /*stuck=*/false);
  if (drained && std::exchange(longest_backlog_, 0) >= kLongBacklog) {
    malloc_trim(0);
  }
}

void StoreWriter::Remember() {
  if (in_flight_.keep.has_value()) {
    std::erase_if(last_known_, [&](const auto& known) { return !in_flight_.keep->contains(known.first); });
  }
  for (auto& [id, service] : in_flight_.services) {
    if (!service.removed) {
      last_known_.insert_or_assign(id, std::move(service));
    }
  }
  for (AlertRow& alert : in_flight_.alerts) {
    const auto key = std::pair(alert.service_id, alert.rule);
    if (alert.resolved.has_value()) {
      open_alerts_.erase(key);
    } else if (!alert.only_owed) {
      open_alerts_.insert_or_assign(key, std::move(alert));
    } else if (const auto open = open_alerts_.find(key); open != open_alerts_.end()) {
      open->second.owed = std::move(alert.owed);
    }
  }
}

// ------------------------------------------------------------------------------------------------------- trouble

void StoreWriter::Fail(const absl::Status& status) {
  if (absl::IsCancelled(status)) {
    given_up_ = true;  // only the end of the time to stop interrupts the writer
    return;
  }
  if (absl::IsDataLoss(status)) {
    SetAside(status);
    return;
  }
  // SQLite has one code for a full disk and for ids that have come to their end.
  if ((absl::IsOutOfRange(status) || absl::IsResourceExhausted(status)) && RepairIds()) {
    return;
  }
  if (absl::IsPermissionDenied(status)) {
    // All connections of a process share one mapping of the -shm file: as long as a reader holds one that was made
    // while nothing could be written, no writer gets a better one.
    const std::unique_lock no_queries = reader_->Disconnect();
    connection_.reset();
  } else if (NeedsNewConnection(status)) {
    connection_.reset();
  }
  given_up_ = stop_seen_ && !absl::IsUnavailable(status);
  Report(fmt::format("{}; rows wait in memory", Words(status)), /*stuck=*/true);
  PublishUnwritten();
  RetryLater();
}

// Returns true iff ids were repaired: then the batch, which is still in flight, is written at once.
bool StoreWriter::RepairIds() {
  if (!connection_.has_value()) {
    return false;
  }
  const absl::StatusOr<std::string> repaired = RepairRowIds(connection_->db);
  if (!repaired.ok() || repaired->empty()) {
    return false;  // the failure that led here is reported, and the next try comes here again
  }
  ReportRepair(*repaired);
  return true;
}

void StoreWriter::ReportRepair(const std::string& repaired) {
  attempt_at_ = MonotonicNow();  // the next commit, if only of nothing, ends the report
  EventRow event;
  event.service_id = kSupervisorServiceId;
  event.event_type = "note";
  event.timestamp = WallNow();
  event.message = repaired;
  event.details = "{}";
  {
    const std::lock_guard lock(state_->mutex);
    state_->queue.AddEvent(std::move(event));
    state_->write_at = std::min(state_->write_at, attempt_at_);
  }
  Report(repaired, /*stuck=*/true);
}

void StoreWriter::RetryLater() {
  attempt_at_ = MonotonicNow() + backoff_;
  backoff_ = std::min(backoff_ * 2, stop_seen_ ? state_->tuning.retry_first : state_->tuning.retry_most);
}

void StoreWriter::SetAside(const absl::Status& why) {
  if (IsReplaced()) {  // what is malformed is no longer there
    LeaveReplacedFile();
    attempt_at_ = MonotonicNow();
    return;
  }
  connection_.reset();
  const MonoTime now = MonotonicNow();
  absl::StatusOr<std::string> kept = absl::FailedPreconditionError(
      fmt::format("{}; another one was set aside less than {} ago, so it stays where it is", Words(why),
                  absl::FormatDuration(state_->tuning.set_aside_interval)));
  const absl::StatusOr<std::string> path = ResolveDatabasePath(state_->path);
  if (path.ok() && now - last_set_aside_ >= state_->tuning.set_aside_interval) {
    const std::unique_lock no_queries = reader_->Disconnect();
    kept = SetDatabaseAside(*path, WallNow());
    const std::lock_guard lock(state_->mutex);
    state_->malformed = false;  // what a query found was in the file that is gone
  }
  if (kept.ok()) {
    last_set_aside_ = now;
    attempt_at_ = now;
    Report(fmt::format("{}; the file is kept as {} and a new one begun, which has none of the history and of other "
                       "programs' tables",
                       Words(why), *kept),
           /*stuck=*/true);
    return;
  }
  Report(fmt::format("{}; rows wait in memory", Words(kept.status())), /*stuck=*/true);
  given_up_ = stop_seen_;
  PublishUnwritten();
  RetryLater();
}

void StoreWriter::LeaveReplacedFile() {
  // The log that lies beside the file now there would be taken for its own: emptied, it says nothing.
  const std::unique_lock no_queries = reader_->Disconnect();
  connection_->db.EmptyWal();
  connection_.reset();
  restore_ = true;
  const std::lock_guard lock(state_->mutex);
  state_->malformed = false;
}

void StoreWriter::Report(const std::string& trouble, bool stuck) {
  bool changed = false;
  {
    const std::lock_guard lock(state_->mutex);
    state_->stuck = stuck;
    state_->reader_wake.notify_all();
    changed = std::exchange(state_->trouble, trouble) != trouble;
  }
  TellWaiting();
  if (changed && on_trouble_) {
    gate_->Call([&] { on_trouble_(trouble); });
  }
}

void StoreWriter::TellWaiting() {
  std::vector<WaitingForWrite> settled;
  {
    const std::lock_guard lock(state_->mutex);
    std::deque<WaitingForWrite>& waiting = state_->waiting_for_write;
    while (!waiting.empty() && state_->IsSettled(waiting.front().after_sequence)) {
      settled.push_back(std::move(waiting.front()));
      waiting.pop_front();
    }
  }
  for (const WaitingForWrite& one : settled) {
    gate_->Call(one.done);
  }
}

void StoreWriter::PublishUnwritten() {
  std::vector<EventRow> rows;
  for (QueuedEvent& event : in_flight_.events) {
    if (!std::exchange(event.published, true)) {
      rows.push_back(event.row);
    }
  }
  {
    const std::lock_guard lock(state_->mutex);
    std::ranges::move(state_->queue.PublishWaitingEvents(), std::back_inserter(rows));
  }
  Publish(std::move(rows));
}

void StoreWriter::Publish(std::vector<EventRow> rows) {
  if (!rows.empty() && on_committed_) {
    gate_->Call([&] { on_committed_(std::move(rows)); });
  }
}

// ------------------------------------------------------------------------------------------------------ retention

void StoreWriter::Retain() {
  const absl::Status status = TryRetain();
  if (status.ok()) {
    return;
  }
  retain_at_ = MonotonicNow() + state_->tuning.retention_first;
  if (absl::IsDataLoss(status)) {
    SetAside(status);
  } else if (NeedsNewConnection(status)) {
    connection_.reset();
  }
  // Whatever else it was: old rows can wait a minute, and new ones will meet the same trouble and report it.
}

absl::Status StoreWriter::TryRetain() {
  if (absl::Status status = Open(); !status.ok()) {
    return status;
  }
  const StoreTuning& tuning = state_->tuning;
  const absl::StatusOr<bool> more = DeleteSteps();
  if (!more.ok()) {
    return more.status();
  }
  const absl::StatusOr<SpaceLeft> space = *more ? SpaceLeft::kMore : ReturnSpace(connection_->db, tuning.space);
  if (!space.ok()) {
    return space.status();
  }
  absl::Duration pause = tuning.retention_interval;
  if (*space != SpaceLeft::kNone) {
    pause = *space == SpaceLeft::kMore ? tuning.retention_pause : tuning.retention_held_back;
  }
  retain_at_ = MonotonicNow() + pause;
  return absl::OkStatus();
}

// One step of the first table that has rows too old: the lock is given back after it. Returns true iff there is more.
absl::StatusOr<bool> StoreWriter::DeleteSteps() {
  absl::Duration metrics;
  absl::Duration events;
  {
    const std::lock_guard lock(state_->mutex);
    metrics = state_->metrics_retention;
    events = state_->events_retention;
  }
  for (const auto& [table, retention] :
       {std::pair(RowWriter::Table::kMetrics, metrics), std::pair(RowWriter::Table::kUsage, metrics),
        std::pair(RowWriter::Table::kEvents, events), std::pair(RowWriter::Table::kAlerts, events)}) {
    absl::StatusOr<bool> more = DeleteStep(table, retention);
    if (!more.ok() || *more) {
      return more;
    }
  }
  return false;
}

absl::StatusOr<bool> StoreWriter::DeleteStep(RowWriter::Table table, absl::Duration retention) {
  if (retention <= absl::ZeroDuration() || retention == absl::InfiniteDuration()) {
    return false;  // a limit of 0 is no limit
  }
  const int64_t step = state_->tuning.retention_step;
  const absl::StatusOr<int64_t> deleted =
      connection_->rows.DeleteOld(connection_->db, table, WallNow() - retention, step);
  if (!deleted.ok()) {
    return deleted.status();
  }
  return *deleted >= step;
}

// ----------------------------------------------------------------------------------------------------------- end

void StoreWriter::Finish() {
  size_t lost = 0;
  std::string trouble;
  {
    const std::lock_guard lock(state_->mutex);
    lost = state_->queue.rows() + in_flight_.rows();
    state_->queue.CountDropped(lost);
    trouble = state_->trouble;
  }
  PublishUnwritten();
  if (lost > 0) {
    Report(
        fmt::format("{} rows could not be written before the stop ({})", lost, trouble.empty() ? "no time" : trouble),
        /*stuck=*/true);
  }
  const std::unique_lock no_queries = reader_->Disconnect();
  if (connection_.has_value() && !IsReplaced() && !state_->StopTimeIsUp()) {
    connection_->db.LeaveWal();
    connection_->db.TidyOnClose();  // otherwise the next to open the database reads the log
  }
  connection_.reset();
}

bool StoreWriter::WaitMore(int count) {
  const MonoTime now = MonotonicNow();
  if (count == 0) {
    lock_wait_began_ = now;
  }
  std::unique_lock lock(state_->mutex);
  const absl::Duration patience =
      state_->stuck ? state_->tuning.lock_patience_in_trouble : state_->tuning.lock_patience;
  if (now >= std::min(lock_wait_began_ + patience, state_->stop_deadline)) {
    return false;
  }
  WaitForWake(state_->writer_wake, lock, now + LockPause(count));
  return true;
}

}  // namespace supervisor
