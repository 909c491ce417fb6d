#pragma once

#include <sqlite3.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/store/sqlite_store.h"
#include "daemon/store/store.h"

namespace supervisor {

// A directory of one test's own, gone with it.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  std::vector<std::string> Names() const;  // of what is in it, sorted

 private:
  std::string path_;
};

// Another program that uses the database: a plain connection. What fails ends the test run with SQLite's words.
class OtherProgram {
 public:
  explicit OtherProgram(const std::string& path);

  void Run(const std::string& sql);
  // SQLite's result code, for what may fail.
  int TryRun(const std::string& sql);
  // Rows of columns as "type:text".
  std::vector<std::vector<std::string>> Rows(const std::string& sql);
  // The first column of the first row, as text; "" when there is none.
  std::string Value(const std::string& sql);
  // Every schema entry and every row of these tables.
  std::string Dump(const std::vector<std::string>& tables);

 private:
  struct Closer {
    void operator()(sqlite3* db) const { sqlite3_close(db); }
  };
  std::unique_ptr<sqlite3, Closer> db_;
};

// Takes in what the store calls, and waits for it.
class Recorder {
 public:
  Store::CommittedCallback OnCommitted();
  Store::TroubleCallback OnTrouble();

  // Each false when it has not come within half a minute.
  bool WaitForEvents(size_t count);
  bool WaitForTrouble(std::string_view part);  // a report that contains it, from now or before
  bool WaitForEnd();                           // the last report is that there is no trouble

  std::vector<EventRow> events() const;
  std::vector<EventRow> late() const;
  std::vector<std::string> troubles() const;

 private:
  bool Wait(const std::function<bool()>& condition);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<EventRow> events_;
  std::vector<EventRow> late_;
  std::vector<std::string> troubles_;
};

StoreTuning FastTuning();
std::unique_ptr<Store> OpenStore(const std::string& path, Recorder& recorder, const StoreTuning& tuning = FastTuning(),
                                 size_t max_queued_rows = 100'000);

// Asks and waits for the answer.
absl::StatusOr<std::vector<EventRow>> Ask(Store& store, Store::EventQuery query);
absl::StatusOr<std::vector<MetricRow>> Ask(Store& store, Store::MetricQuery query);

EventRow Event(std::string service, std::string type, std::string message = "");
MetricRow Metrics(std::string service, absl::Time at, double cpu);
ServiceRow Service(std::string id, std::string state);

}  // namespace supervisor
