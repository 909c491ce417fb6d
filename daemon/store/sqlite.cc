#include "daemon/store/sqlite.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <cmath>
#include <filesystem>
#include <system_error>
#include <utility>

#include "common/errno_status.h"
#include "common/loop_thread.h"

namespace supervisor {
namespace {

// How many of SQLite's virtual instructions run between two looks at `give_up`: a fraction of a millisecond.
constexpr int kInstructionsBetweenLooks = 5000;

std::string_view CodeName(int primary) {
  switch (primary) {
    case SQLITE_ERROR:
      return "SQLITE_ERROR";
    case SQLITE_PERM:
      return "SQLITE_PERM";
    case SQLITE_BUSY:
      return "SQLITE_BUSY";
    case SQLITE_LOCKED:
      return "SQLITE_LOCKED";
    case SQLITE_NOMEM:
      return "SQLITE_NOMEM";
    case SQLITE_READONLY:
      return "SQLITE_READONLY";
    case SQLITE_INTERRUPT:
      return "SQLITE_INTERRUPT";
    case SQLITE_IOERR:
      return "SQLITE_IOERR";
    case SQLITE_CORRUPT:
      return "SQLITE_CORRUPT";
    case SQLITE_FULL:
      return "SQLITE_FULL";
    case SQLITE_CANTOPEN:
      return "SQLITE_CANTOPEN";
    case SQLITE_PROTOCOL:
      return "SQLITE_PROTOCOL";
    case SQLITE_SCHEMA:
      return "SQLITE_SCHEMA";
    case SQLITE_TOOBIG:
      return "SQLITE_TOOBIG";
    case SQLITE_CONSTRAINT:
      return "SQLITE_CONSTRAINT";
    case SQLITE_MISMATCH:
      return "SQLITE_MISMATCH";
    case SQLITE_AUTH:
      return "SQLITE_AUTH";
    case SQLITE_NOTADB:
      return "SQLITE_NOTADB";
    default:
      return "";
  }
}

absl::StatusCode CodeOf(int primary) {
  switch (primary) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:  // too many others at once: sqlite.org/rescode.html#protocol says to try again
      return absl::StatusCode::kUnavailable;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::StatusCode::kDataLoss;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_TOOBIG:
      return absl::StatusCode::kInvalidArgument;
    case SQLITE_FULL:
    case SQLITE_NOMEM:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return absl::StatusCode::kPermissionDenied;
    case SQLITE_INTERRUPT:
      return absl::StatusCode::kCancelled;
    default:
      return absl::StatusCode::kInternal;
  }
}

absl::Status ToStatus(sqlite3* db, int code, std::string_view context) {
  const int primary = code & 0xff;
  std::string_view name = CodeName(primary);
  std::string note = name.empty() ? fmt::format("SQLite result {}", code) : std::string(name);
  if (db != nullptr && (primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN || primary == SQLITE_FULL)) {
    if (const int error = sqlite3_system_errno(db); error != 0) {
      note += ": " + ErrnoText(error);
    }
  }
  const char* words = db != nullptr && sqlite3_extended_errcode(db) == code ? sqlite3_errmsg(db) : sqlite3_errstr(code);
  return {CodeOf(primary), fmt::format("{}: {} ({})", context, words, note)};
}

}  // namespace

// ------------------------------------------------------------------------------------------------------- statement

SqliteStatement::SqliteStatement(sqlite3_stmt* statement, std::string context)
    : statement_(statement), context_(std::move(context)) {}

void SqliteStatement::Finalizer::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

void SqliteStatement::NoteBind(int code) {
  if (code != SQLITE_OK && bind_error_ == SQLITE_OK) {
    bind_error_ = code;
  }
}

SqliteStatement& SqliteStatement::Bind(int index, std::string_view text) {
  // A null pointer would bind NULL.
  const char* data = text.data() != nullptr ? text.data() : "";
  NoteBind(sqlite3_bind_text64(statement_.get(), index, data, text.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
  return *this;
}

SqliteStatement& SqliteStatement::Bind(int index, int64_t value) {
  NoteBind(sqlite3_bind_int64(statement_.get(), index, value));
  return *this;
}

SqliteStatement& SqliteStatement::Bind(int index, std::optional<int64_t> value) {
  return value.has_value() ? Bind(index, *value) : BindNull(index);
}

SqliteStatement& SqliteStatement::Bind(int index, std::optional<double> value) {
  if (!value.has_value() || !std::isfinite(*value)) {
    return BindNull(index);
  }
  NoteBind(sqlite3_bind_double(statement_.get(), index, *value));
  return *this;
}

SqliteStatement& SqliteStatement::BindNull(int index) {
  NoteBind(sqlite3_bind_null(statement_.get(), index));
  return *this;
}

absl::StatusOr<bool> SqliteStatement::Step() {
  NotOnLoopThread("SQLite");
  sqlite3* db = sqlite3_db_handle(statement_.get());
  if (const int error = std::exchange(bind_error_, SQLITE_OK); error != SQLITE_OK) {
    return ToStatus(db, error, context_);
  }
  switch (const int code = sqlite3_step(statement_.get()); code) {
    case SQLITE_ROW:
      return true;
    case SQLITE_DONE:
      return false;
    default:
      return ToStatus(db, code, context_);
  }
}

void SqliteStatement::Reset() { sqlite3_reset(statement_.get()); }

absl::Status SqliteStatement::Run() {
  const StatementReset reset(*this);
  while (true) {
    const absl::StatusOr<bool> row = Step();
    if (!row.ok()) {
      return row.status();
    }
    if (!*row) {
      return absl::OkStatus();
    }
  }
}

bool SqliteStatement::IsNull(int column) const { return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL; }

bool SqliteStatement::IsText(int column) const { return sqlite3_column_type(statement_.get(), column) == SQLITE_TEXT; }

int64_t SqliteStatement::Int(int column) const { return sqlite3_column_int64(statement_.get(), column); }

double SqliteStatement::Double(int column) const { return sqlite3_column_double(statement_.get(), column); }

std::string SqliteStatement::Text(int column) const { return std::string(View(column)); }

std::string_view SqliteStatement::View(int column) const {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  if (text == nullptr) {
    return "";
  }
  // After the text: it may be converted to UTF-8.
  return {text, static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

// ------------------------------------------------------------------------------------------------------ connection

// Closing may move the whole log into the file.
void SqliteDatabase::Closer::operator()(sqlite3* db) const {
  NotOnLoopThread("SQLite");
  sqlite3_close_v2(db);
}

absl::StatusOr<SqliteDatabase> SqliteDatabase::Open(const std::string& path, Mode mode) {
  NotOnLoopThread("SQLite");
  SqliteDatabase database;
  database.path_ = path;
  const int access = mode == Mode::kReadWrite ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY;
  sqlite3* db = nullptr;
  // NOMUTEX: one thread at a time uses a connection, which our callers see to.
  const int code = sqlite3_open_v2(
      path.c_str(), &db,
      access | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE, nullptr);
  database.db_.reset(db);  // also a failed open gives a handle to close
  if (code != SQLITE_OK) {
    return ToStatus(db, code, fmt::format("database {}: opening it", path));
  }
  sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  return database;
}

void SqliteDatabase::SetPatience(std::function<bool(int)> wait_more, std::function<bool()> give_up) {
  auto patience = std::make_unique<Patience>(Patience{std::move(wait_more), std::move(give_up)});
  sqlite3_busy_handler(
      db_.get(), [](void* context, int count) { return static_cast<Patience*>(context)->wait_more(count) ? 1 : 0; },
      patience.get());
  sqlite3_progress_handler(
      db_.get(), kInstructionsBetweenLooks,
      [](void* context) { return static_cast<Patience*>(context)->give_up() ? 1 : 0; }, patience.get());
  patience_ = std::move(patience);
}

absl::Status SqliteDatabase::Exec(const std::string& sql) {
  NotOnLoopThread("SQLite");
  const int code = sqlite3_exec(db_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) {
    return ToStatus(db_.get(), code, fmt::format("database {}", path_));
  }
  return absl::OkStatus();
}

absl::StatusOr<SqliteStatement> SqliteDatabase::Prepare(const char* sql) {
  NotOnLoopThread("SQLite");
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(db_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) {
    return ToStatus(db_.get(), code, fmt::format("database {}", path_));
  }
  return SqliteStatement(statement, fmt::format("database {}", path_));
}

absl::StatusOr<int64_t> SqliteDatabase::FirstNumber(const char* sql) {
  absl::StatusOr<SqliteStatement> statement = Prepare(sql);
  if (!statement.ok()) {
    return statement.status();
  }
  const absl::StatusOr<bool> row = statement->Step();
  if (!row.ok()) {
    return row.status();
  }
  return *row ? statement->Int(0) : 0;
}

bool SqliteDatabase::InTransaction() const { return sqlite3_get_autocommit(db_.get()) == 0; }

bool SqliteDatabase::IsReadOnly() const { return sqlite3_db_readonly(db_.get(), "main") == 1; }

int64_t SqliteDatabase::LastInsertId() const { return sqlite3_last_insert_rowid(db_.get()); }

int64_t SqliteDatabase::Changes() const { return sqlite3_changes64(db_.get()); }

void SqliteDatabase::EmptyWal() {
  NotOnLoopThread("SQLite");
  sqlite3_wal_checkpoint_v2(db_.get(), nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
}

// A reader that still needs the file's old pages is no error: the checkpoint stops short of what it holds back
// (https://www.sqlite.org/c3ref/wal_checkpoint_v2.html).
bool SqliteDatabase::MoveWalIntoFile() {
  NotOnLoopThread("SQLite");
  int frames = 0;
  int moved = 0;
  const int code = sqlite3_wal_checkpoint_v2(db_.get(), nullptr, SQLITE_CHECKPOINT_PASSIVE, &frames, &moved);
  return code == SQLITE_OK && frames == moved;
}

int64_t SqliteDatabase::FileBytes() const {
  std::error_code error;
  const uintmax_t bytes = std::filesystem::file_size(path_, error);
  return error ? 0 : static_cast<int64_t>(bytes);
}

void SqliteDatabase::LeaveWal() {
  sqlite3_busy_timeout(db_.get(), 0);
  Exec("PRAGMA journal_mode = DELETE").IgnoreError();  // then closing tidies up, as far as it can
}

void SqliteDatabase::TidyOnClose() { sqlite3_db_config(db_.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, nullptr); }

}  // namespace supervisor
