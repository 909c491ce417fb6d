#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct sqlite3;
struct sqlite3_stmt;

namespace supervisor {

// SQLite with owners: a connection, a prepared statement, and one translation of its result codes. One thread at a
// time, and never that of a loop (common/loop_thread.h).
//
// Codes of the statuses, on which callers decide:
//   kUnavailable        locked by another connection (SQLITE_BUSY, SQLITE_LOCKED): try again
//   kDataLoss           the file is malformed (SQLITE_CORRUPT) or no database at all (SQLITE_NOTADB)
//   kInvalidArgument    this row is refused (SQLITE_CONSTRAINT, SQLITE_MISMATCH, SQLITE_TOOBIG); others may be taken
//   kResourceExhausted  disk full, no memory
//   kPermissionDenied   read-only, not permitted
//   kCancelled          interrupted by SetPatience's `give_up`
//   kInternal           everything else: I/O errors, SQL that does not fit the tables
// Messages read "database PATH: WHAT: SQLite's words (SQLITE_NAME[: errno])".

// A prepared statement. Must go before its connection. Texts are copied when bound; a bind that fails is reported by
// the next Step.
class SqliteStatement {
 public:
  SqliteStatement() = default;
  SqliteStatement(sqlite3_stmt* statement, std::string context);

  SqliteStatement& Bind(int index, std::string_view text);
  SqliteStatement& Bind(int index, int64_t value);
  SqliteStatement& Bind(int index, std::optional<int64_t> value);
  SqliteStatement& Bind(int index, std::optional<double> value);  // one that is not finite becomes NULL
  SqliteStatement& BindNull(int index);

  // True: a row is there to read. The caller resets when it has read enough: an open read holds up checkpoints.
  absl::StatusOr<bool> Step();
  void Reset();
  // Steps to the end and resets, whatever comes of it.
  absl::Status Run();

  // Of the row, columns counted from 0.
  bool IsNull(int column) const;
  bool IsText(int column) const;
  int64_t Int(int column) const;
  double Double(int column) const;
  std::string Text(int column) const;       // NULL gives ""
  std::string_view View(int column) const;  // likewise, until the next Step or another look at that column

 private:
  struct Finalizer {
    void operator()(sqlite3_stmt* statement) const;
  };
  void NoteBind(int code);

  std::unique_ptr<sqlite3_stmt, Finalizer> statement_;
  std::string context_;
  int bind_error_ = 0;
};

// Resets at the end of a scope.
class StatementReset {
 public:
  explicit StatementReset(SqliteStatement& statement) : statement_(statement) {}
  ~StatementReset() { statement_.Reset(); }
  StatementReset(const StatementReset&) = delete;
  StatementReset& operator=(const StatementReset&) = delete;

 private:
  SqliteStatement& statement_;
};

class SqliteDatabase {
 public:
  enum class Mode { kReadWrite, kReadOnly };

  // Opens an existing file (an empty one is an empty database). `path` is absolute, and none of its parts may be a
  // symbolic link: ResolveDatabasePath makes such a one.
  static absl::StatusOr<SqliteDatabase> Open(const std::string& path, Mode mode);

  // `wait_more(n)` is called the n-th time that a lock is not to be had, waits a little and says whether to try again.
  // `give_up` is asked now and then while a statement runs; true interrupts it.
  void SetPatience(std::function<bool(int)> wait_more, std::function<bool()> give_up);

  absl::Status Exec(const std::string& sql);
  absl::StatusOr<SqliteStatement> Prepare(const char* sql);
  // The first column of the first row; 0 when there is no row.
  absl::StatusOr<int64_t> FirstNumber(const char* sql);

  bool InTransaction() const;
  bool IsReadOnly() const;
  int64_t LastInsertId() const;
  int64_t Changes() const;

  // Moves everything from the write-ahead log into the file and empties the log, so that it says nothing to whoever
  // opens it next. Best effort.
  void EmptyWal();
  // Moves into the file what no reader still needs of the write-ahead log, and waits for none. Returns true iff that
  // was the whole log.
  bool MoveWalIntoFile();
  // Of the file without its log; 0 where it is gone.
  int64_t FileBytes() const;
  // Makes the file one that can be read without a log beside it, so also by programs that may not write to its
  // directory. Waits for nobody: as long as another program has the file open, all stays as it is.
  void LeaveWal();
  // Lets the last connection that closes move the log into the file and delete it. Not so by default: SQLite deletes
  // "<path>-wal" by name, which is wrong where the file at our path has been replaced, and loses what may be saved
  // where the database is malformed.
  void TidyOnClose();

  const std::string& path() const { return path_; }

 private:
  struct Closer {
    void operator()(sqlite3* db) const;
  };
  struct Patience {
    std::function<bool(int)> wait_more;
    std::function<bool()> give_up;
  };
  SqliteDatabase() = default;

  std::string path_;
  std::unique_ptr<Patience> patience_;  // SQLite keeps a pointer to it
  std::unique_ptr<sqlite3, Closer> db_;
};

}  // namespace supervisor
