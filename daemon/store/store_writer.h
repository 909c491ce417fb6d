#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/clock.h"
#include "daemon/store/db_file.h"
#include "daemon/store/row_writer.h"
#include "daemon/store/sqlite.h"
#include "daemon/store/store_queue.h"
#include "daemon/store/store_reader.h"
#include "daemon/store/store_state.h"

namespace supervisor {

// The one that writes: opens the database, writes batches, deletes what is old, and knows what to do when any of that
// fails. Lives on its thread; sleeps while nothing is due.
//
//   failure               what happens
//   locked, disk full     the batch is kept and tried again, with back-off
//   malformed             the file is set aside, a new one begun, the batch written to that
//   everything else       as locked, with a new connection each time
//   file gone, replaced   noticed before a batch: reopened, or made again with the services' last known rows
//   ids at their end      (another program's row has SQLite's greatest) the rows get new ids, see row_ids.h
//   one row refused       (a constraint that somebody added) dropped and counted, the others are written
class StoreWriter {
 public:
  StoreWriter(std::shared_ptr<StoreState> state, std::shared_ptr<StoreReader> reader, std::shared_ptr<CallGate> gate,
              Store::CommittedCallback on_committed, Store::TroubleCallback on_trouble);

  // The thread: returns when the store stops, with everything written or the time for that over.
  void Run();

 private:
  struct Connection {
    SqliteDatabase db;
    RowWriter rows;
    std::string path;  // resolved
    FileIdentity identity;
  };
  enum class Work { kWrite, kPublish, kRetain, kStop };

  Work WaitForWork();
  std::optional<Work> DueWork(MonoTime now);  // under the state's mutex, as the next one
  MonoTime NextDeadline() const;

  void Write();
  absl::Status TryWrite();
  absl::Status Open();
  bool IsReplaced() const;
  absl::Status Connect();
  absl::Status Restore();
  void FollowAccess();
  absl::Status TakeAndWrite();
  void Committed(const BatchOutcome& outcome);
  void Remember();

  void Fail(const absl::Status& status);
  bool RepairIds();
  void ReportRepair(const std::string& repaired);
  void SetAside(const absl::Status& why);
  void LeaveReplacedFile();
  void RetryLater();
  void Report(const std::string& trouble, bool stuck);
  void PublishUnwritten();
  void Publish(std::vector<EventRow> rows);
  void TellWaiting();

  void Retain();
  absl::Status TryRetain();
  absl::StatusOr<bool> DeleteSteps();
  absl::StatusOr<bool> DeleteStep(RowWriter::Table table, absl::Duration retention);

  void Finish();
  bool WaitMore(int count);

  std::shared_ptr<StoreState> state_;
  std::shared_ptr<StoreReader> reader_;
  std::shared_ptr<CallGate> gate_;
  Store::CommittedCallback on_committed_;
  Store::TroubleCallback on_trouble_;

  std::optional<Connection> connection_;
  StoreBatch in_flight_;
  // What a database that is made again, or another that is put in its place, is told first.
  std::map<std::string, QueuedService> last_known_;
  std::map<std::pair<std::string, std::string>, AlertRow> open_alerts_;  // by service and rule
  bool restore_ = false;
  // As last seen: a file that takes this one's place gets it too.
  std::optional<DbFileAccess> access_;
  MonoTime attempt_at_;  // when to try to open and write even with an empty queue: at the start, after a failure
  absl::Duration backoff_;
  MonoTime lock_wait_began_;
  MonoTime last_set_aside_ = -absl::InfiniteDuration();
  MonoTime retain_at_;
  bool retained_last_ = false;  // the queue and retention take turns when both are due
  bool attempted_ = false;      // to open the database, so that there is one even when it stops at once
  bool stop_seen_ = false;
  bool given_up_ = false;  // stopping, and what remains cannot be written
  size_t longest_backlog_ = 0;
};

}  // namespace supervisor
