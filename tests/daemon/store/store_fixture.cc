#include "tests/daemon/store/store_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <utility>

#include "common/clock.h"

namespace supervisor {
namespace {

constexpr auto kPatience = std::chrono::seconds(30);

[[noreturn]] void Die(sqlite3* db, const std::string& sql) {
  std::fprintf(stderr, "other program: %s: %s\n", sql.c_str(), sqlite3_errmsg(db));
  std::abort();
}

template <typename Rows, typename Send>
absl::StatusOr<Rows> Await(Send send) {
  auto answer = std::make_shared<std::promise<absl::StatusOr<Rows>>>();
  std::future<absl::StatusOr<Rows>> future = answer->get_future();
  send([answer](absl::StatusOr<Rows> rows) { answer->set_value(std::move(rows)); });
  if (future.wait_for(kPatience) != std::future_status::ready) {
    return absl::DeadlineExceededError("the store did not answer");
  }
  return future.get();
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
  std::string pattern = (std::filesystem::temp_directory_path() / "store_test.XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) {
    std::abort();
  }
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> TemporaryDirectory::Names() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

OtherProgram::OtherProgram(const std::string& path) {
  sqlite3* db = nullptr;
  const int code = sqlite3_open(path.c_str(), &db);
  db_.reset(db);
  if (code != SQLITE_OK) {
    Die(db, path);
  }
  sqlite3_busy_timeout(db, 20'000);
}

int OtherProgram::TryRun(const std::string& sql) {
  return sqlite3_exec(db_.get(), sql.c_str(), nullptr, nullptr, nullptr);
}

void OtherProgram::Run(const std::string& sql) {
  if (TryRun(sql) != SQLITE_OK) {
    Die(db_.get(), sql);
  }
}

std::vector<std::vector<std::string>> OtherProgram::Rows(const std::string& sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(db_.get(), sql.c_str(), -1, &statement, nullptr) != SQLITE_OK) {
    Die(db_.get(), sql);
  }
  std::vector<std::vector<std::string>> rows;
  int code = sqlite3_step(statement);
  for (; code == SQLITE_ROW; code = sqlite3_step(statement)) {
    std::vector<std::string>& row = rows.emplace_back();
    for (int i = 0; i < sqlite3_column_count(statement); ++i) {
      std::string value = std::to_string(sqlite3_column_type(statement, i)) + ":";
      if (const unsigned char* text = sqlite3_column_text(statement, i); text != nullptr) {
        value.append(text, text + sqlite3_column_bytes(statement, i));
      }
      row.push_back(std::move(value));
    }
  }
  sqlite3_finalize(statement);
  if (code != SQLITE_DONE) {
    Die(db_.get(), sql);
  }
  return rows;
}

std::string OtherProgram::Value(const std::string& sql) {
  const auto rows = Rows(sql);
  return rows.empty() ? "" : rows[0][0].substr(2);
}

std::string OtherProgram::Dump(const std::vector<std::string>& tables) {
  std::string dump;
  for (const std::string& table : tables) {
    for (const auto& row : Rows("SELECT sql FROM sqlite_schema WHERE name = '" + table +
                                "' UNION ALL "
                                "SELECT sql FROM sqlite_schema WHERE tbl_name = '" +
                                table + "' AND type = 'trigger'")) {
      dump += row[0] + "\n";
    }
    for (const auto& row : Rows("SELECT rowid, * FROM " + table + " ORDER BY rowid")) {
      for (const std::string& value : row) {
        dump += value + "|";
      }
      dump += "\n";
    }
  }
  return dump;
}

Store::CommittedCallback Recorder::OnCommitted() {
  return [this](std::vector<EventRow> rows) {
    const std::lock_guard lock(mutex_);
    for (EventRow& row : rows) {
      (row.late ? late_ : events_).push_back(std::move(row));
    }
    changed_.notify_all();
  };
}

Store::TroubleCallback Recorder::OnTrouble() {
  return [this](const std::string& error) {
    const std::lock_guard lock(mutex_);
    troubles_.push_back(error);
    changed_.notify_all();
  };
}

std::vector<EventRow> Recorder::late() const {
  const std::lock_guard lock(mutex_);
  return late_;
}

bool Recorder::Wait(const std::function<bool()>& condition) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, condition);
}

bool Recorder::WaitForEvents(size_t count) {
  return Wait([&] { return events_.size() >= count; });
}

bool Recorder::WaitForTrouble(std::string_view part) {
  return Wait([&] {
    return std::ranges::any_of(troubles_,
                               [&](const std::string& text) { return text.find(part) != std::string::npos; });
  });
}

bool Recorder::WaitForEnd() {
  return Wait([&] { return !troubles_.empty() && troubles_.back().empty(); });
}

std::vector<EventRow> Recorder::events() const {
  const std::lock_guard lock(mutex_);
  return events_;
}

std::vector<std::string> Recorder::troubles() const {
  const std::lock_guard lock(mutex_);
  return troubles_;
}

StoreTuning FastTuning() {
  StoreTuning tuning;
  tuning.lock_patience = absl::Milliseconds(20);
  tuning.lock_patience_in_trouble = absl::Milliseconds(30);
  tuning.retry_first = absl::Milliseconds(30);
  tuning.retry_most = absl::Milliseconds(20);
  return tuning;
}

std::unique_ptr<Store> OpenStore(const std::string& path, Recorder& recorder, const StoreTuning& tuning,
                                 size_t max_queued_rows) {
  Store::Options options;
  options.path = path;
  options.max_queued_rows = max_queued_rows;
  auto store = SqliteStore::Open(options, tuning, recorder.OnCommitted(), recorder.OnTrouble());
  if (!store.ok()) {
    std::fprintf(stderr, "open: %s\n", store.status().ToString().c_str());
    std::abort();
  }
  return *std::move(store);
}

absl::StatusOr<std::vector<EventRow>> Ask(Store& store, Store::EventQuery query) {
  return Await<std::vector<EventRow>>([&](auto done) { store.QueryEvents(std::move(query), std::move(done)); });
}

absl::StatusOr<std::vector<MetricRow>> Ask(Store& store, Store::MetricQuery query) {
  return Await<std::vector<MetricRow>>([&](auto done) { store.QueryMetrics(std::move(query), std::move(done)); });
}

EventRow Event(std::string service, std::string type, std::string message) {
  EventRow row;
  row.service_id = std::move(service);
  row.event_type = std::move(type);
  row.timestamp = WallNow();
  row.message = std::move(message);
  return row;
}

MetricRow Metrics(std::string service, absl::Time at, double cpu) {
  MetricRow row;
  row.service_id = std::move(service);
  row.timestamp = at;
  row.cpu_percent = cpu;
  return row;
}

ServiceRow Service(std::string id, std::string state) {
  ServiceRow row;
  row.name = "The " + id;
  row.id = std::move(id);
  row.state = std::move(state);
  return row;
}

}  // namespace supervisor
