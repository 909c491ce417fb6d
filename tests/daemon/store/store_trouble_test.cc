#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>

#include "common/clock.h"
#include "common/unique_fd.h"
#include "tests/daemon/store/contract_sql.h"
#include "tests/daemon/store/private_mount.h"
#include "tests/daemon/store/store_fixture.h"

// What may befall the file, and that callers go on: no row is lost that there is room for, none is shown or written
// twice, and the trouble is reported once.

namespace supervisor {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

std::string ReadFile(const std::string& path) {
  std::ostringstream content;
  content << std::ifstream(path).rdbuf();
  return content.str();
}

void WriteFile(const std::string& path, const std::string& content) { std::ofstream(path) << content; }

class StoreTroubleTest : public ::testing::Test {
 protected:
  std::unique_ptr<Store> Open(size_t max_queued_rows = 100'000) {
    return OpenStore(path_, recorder_, FastTuning(), max_queued_rows);
  }

  // An event that is on disk, so the store is open and at rest.
  void LogAndWait(Store& store, const std::string& message) {
    const size_t before = recorder_.events().size();
    store.LogEvent(Event("web", "started", message));
    ASSERT_TRUE(recorder_.WaitForEvents(before + 1));
    ASSERT_GT(recorder_.events().back().id, 0);
  }

  std::string MessagesOnDisk(const std::string& path) {
    return OtherProgram(path).Value("SELECT group_concat(message) FROM (SELECT * FROM supervisor_events ORDER BY id)");
  }

  // "<path>.malformed-..." without suffix, "" when there is none.
  std::string Kept() const {
    for (const std::string& name : directory_.Names()) {
      if (name.starts_with("x.db.malformed-") && !name.ends_with("-wal") && !name.ends_with("-shm")) {
        return directory_ / name;
      }
    }
    return "";
  }

  TemporaryDirectory directory_;
  std::string path_ = std::filesystem::canonical(directory_.path()).string() + "/x.db";
  Recorder recorder_;
};

TEST_F(StoreTroubleTest, ALockedDatabaseIsWaitedFor) {
  const auto store = Open();
  LogAndWait(*store, "before");
  OtherProgram other(path_);
  other.Run("BEGIN IMMEDIATE");
  EventRow first = Event("web", "exited", "first");
  first.ticket = 7;
  store->LogEvent(first);
  ASSERT_TRUE(recorder_.WaitForTrouble("database is locked"));
  ASSERT_TRUE(recorder_.WaitForEvents(2));  // followers see it all the same
  store->LogEvent(Event("web", "restarting", "second"));
  ASSERT_TRUE(recorder_.WaitForEvents(3));
  EXPECT_THAT(Ask(*store, Store::EventQuery{}), ::testing::Truly([](const auto& rows) {
                return rows.ok() && rows->size() == 1;  // what is on disk, without waiting for the rest
              }));
  EXPECT_EQ(store->Stats().queued_rows, 2);
  EXPECT_THAT(store->Stats().error, HasSubstr(path_));
  other.Run("COMMIT");
  ASSERT_TRUE(recorder_.WaitForEnd());
  LogAndWait(*store, "after");
  EXPECT_THAT(recorder_.troubles(), ElementsAre(HasSubstr("SQLITE_BUSY"), ""));
  EXPECT_THAT(recorder_.events(),
              ElementsAre(Field(&EventRow::id, 1), AllOf(Field(&EventRow::id, 0), Field(&EventRow::message, "first")),
                          AllOf(Field(&EventRow::id, 0), Field(&EventRow::message, "second")),
                          AllOf(Field(&EventRow::id, 4), Field(&EventRow::message, "after"))));
  // Who waits for them to be on disk hears of that too.
  EXPECT_THAT(recorder_.late(), ElementsAre(AllOf(Field(&EventRow::id, 2), Field(&EventRow::ticket, 7)),
                                            AllOf(Field(&EventRow::id, 3), Field(&EventRow::message, "second"))));
  EXPECT_EQ(MessagesOnDisk(path_), "before,first,second,after");
  EXPECT_EQ(store->Stats().dropped_rows, 0);
  EXPECT_EQ(store->Stats().error, "");
}

TEST_F(StoreTroubleTest, NobodyWaitsForADiskThatTakesNothing) {
  const auto store = Open();
  LogAndWait(*store, "before");
  OtherProgram other(path_);
  other.Run("BEGIN IMMEDIATE");
  store->LogEvent(Event("web", "exited", "first"));
  std::promise<void> told;
  store->WhenWritten([&] { told.set_value(); });  // when that is known
  EXPECT_EQ(told.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
  EXPECT_EQ(MessagesOnDisk(path_), "before");
  store->LogEvent(Event("web", "restarting", "second"));
  bool at_once = false;
  store->WhenWritten([&] { at_once = true; });
  EXPECT_TRUE(at_once);
  other.Run("COMMIT");
  ASSERT_TRUE(recorder_.WaitForEnd());  // of the trouble: what was in flight is written
  std::promise<void> written;
  store->WhenWritten([&] { written.set_value(); });
  EXPECT_EQ(written.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
  EXPECT_EQ(MessagesOnDisk(path_), "before,first,second");
}

TEST_F(StoreTroubleTest, AQueryThatNobodyWaitsForAnyMoreIsNotMade) {
  StoreTuning tuning = FastTuning();
  tuning.query_too_late = absl::ZeroDuration();
  const auto store = OpenStore(path_, recorder_, tuning);
  LogAndWait(*store, "before");
  const auto answer = Ask(*store, Store::EventQuery{});
  EXPECT_TRUE(absl::IsDeadlineExceeded(answer.status())) << answer.status();
}

TEST_F(StoreTroubleTest, LockedFromTheStart) {
  OtherProgram other(path_);
  other.Run("CREATE TABLE theirs (x); BEGIN EXCLUSIVE; INSERT INTO theirs VALUES (1)");
  const auto store = Open();
  store->UpdateService(Service("web", "running"));
  store->LogEvent(Event("web", "started", "a"));
  ASSERT_TRUE(recorder_.WaitForTrouble("locked"));
  const auto rows = Ask(*store, Store::EventQuery{});
  EXPECT_FALSE(rows.ok());
  EXPECT_THAT(std::string(rows.status().message()), HasSubstr(path_));
  other.Run("COMMIT");
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_EQ(MessagesOnDisk(path_), "a");
  EXPECT_EQ(other.Value("SELECT count(*) FROM theirs"), "1");
  EXPECT_EQ(other.Value("SELECT state FROM supervisor_services WHERE id = 'web'"), "running");
}

TEST_F(StoreTroubleTest, AFullQueueDropsAndCounts) {
  OtherProgram other(path_);
  other.Run("BEGIN EXCLUSIVE");
  const auto store = Open(/*max_queued_rows=*/10);
  ASSERT_TRUE(recorder_.WaitForTrouble("locked"));
  for (int i = 0; i < 8; ++i) {
    store->LogEvent(Event("web", "started", std::to_string(i)));
  }
  for (int i = 0; i < 50; ++i) {
    store->RecordMetrics(Metrics("web", WallNow(), i));
  }
  EXPECT_EQ(store->Stats().queued_rows, 10);
  EXPECT_EQ(store->Stats().dropped_rows, 48);
  for (int i = 8; i < 20; ++i) {
    store->LogEvent(Event("web", "started", std::to_string(i)));
  }
  EXPECT_EQ(store->Stats().dropped_rows, 60);
  other.Run("COMMIT");
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_EQ(MessagesOnDisk(path_), "10,11,12,13,14,15,16,17,18,19");
  EXPECT_EQ(store->Stats().dropped_rows, 60);
}

TEST_F(StoreTroubleTest, StoppingWhileLockedTakesNoLongerThanAllowed) {
  OtherProgram other(path_);
  other.Run("BEGIN EXCLUSIVE");
  StoreTuning tuning = FastTuning();
  tuning.flush_time = absl::Milliseconds(200);
  auto store = OpenStore(path_, recorder_, tuning);
  store->LogEvent(Event("web", "started"));
  ASSERT_TRUE(recorder_.WaitForTrouble("locked"));
  const MonoTime before = MonotonicNow();
  store.reset();
  EXPECT_LT(MonotonicNow() - before, absl::Seconds(2));
  EXPECT_THAT(recorder_.troubles().back(), HasSubstr("1 rows could not be written before the stop"));
}

TEST_F(StoreTroubleTest, ALockGivenBackDuringTheStopIsUsed) {
  OtherProgram other(path_);
  other.Run("BEGIN EXCLUSIVE");
  bool held = true;
  Store::Options options;
  options.path = path_;
  auto store = *SqliteStore::Open(options, FastTuning(), nullptr, [&](const std::string& trouble) {
    if (held && trouble.find("locked") != std::string::npos) {
      held = false;
      other.Run("COMMIT");
    }
  });
  for (int i = 0; i < 3000; ++i) {
    store->LogEvent(Event("web", "started"));
  }
  store.reset();
  EXPECT_EQ(other.Value("SELECT count(*) FROM supervisor_events"), "3000");
}

TEST_F(StoreTroubleTest, AFileThatIsNoDatabaseIsSetAside) {
  const std::string garbage(10'000, 'x');
  WriteFile(path_, garbage);
  WriteFile(path_ + "-wal", "log");
  const auto store = Open();
  LogAndWait(*store, "a");
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_THAT(recorder_.troubles(),
              ElementsAre(AllOf(HasSubstr(path_ + ": "), HasSubstr("SQLITE_NOTADB"), HasSubstr("kept as " + Kept()),
                                HasSubstr("other programs' tables")),
                          ""));
  EXPECT_EQ(ReadFile(Kept()), garbage);
  EXPECT_EQ(ReadFile(Kept() + "-wal"), "log");
  EXPECT_EQ(MessagesOnDisk(path_), "a");
}

TEST_F(StoreTroubleTest, ADatabaseThatIsCutShortIsSetAside) {
  {
    OtherProgram other(path_);
    other.Run(kContractSql);
    other.Run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10000) INSERT INTO supervisor_events "
        "(service_id, event_type) SELECT 'web', 'started' FROM n");
  }
  std::filesystem::resize_file(path_, 8192);
  const auto store = Open();
  LogAndWait(*store, "a");
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_THAT(recorder_.troubles()[0], HasSubstr("SQLITE_CORRUPT"));
  EXPECT_EQ(std::filesystem::file_size(Kept()), 8192);
}

// Damages everything but the first page, with the log emptied before and the caches made stale.
void SpoilPages(const std::string& path) {
  OtherProgram other(path);
  other.Run("CREATE TABLE IF NOT EXISTS theirs (x); PRAGMA wal_checkpoint(TRUNCATE)");
  const auto size = static_cast<off_t>(std::filesystem::file_size(path));
  // Not through a descriptor of this process that is closed before SQLite's own: that would drop its locks.
  static std::vector<UniqueFd> kept_open;
  kept_open.emplace_back(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  const std::string page(4096, '\xA5');
  for (off_t at = 4096; at < size; at += 4096) {
    ASSERT_EQ(pwrite(kept_open.back().get(), page.data(), page.size(), at), 4096);
  }
}

TEST_F(StoreTroubleTest, ADatabaseSpoiledWhileOpenIsSetAside) {
  const auto store = Open();
  store->UpdateService(Service("web", "running"));
  LogAndWait(*store, "before");
  SpoilPages(path_);
  LogAndWait(*store, "after");  // with an id, in the new one
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_THAT(recorder_.troubles(), ElementsAre(AllOf(HasSubstr("SQLITE_CORRUPT"), HasSubstr(Kept())), ""));
  EXPECT_EQ(MessagesOnDisk(path_), "after");
  EXPECT_EQ(OtherProgram(path_).Value("SELECT state FROM supervisor_services WHERE id = 'web'"), "running");
}

TEST_F(StoreTroubleTest, AQueryThatFindsItMalformedIsEnough) {
  const auto store = Open();
  LogAndWait(*store, "before");
  SpoilPages(path_);
  EXPECT_EQ(Ask(*store, Store::EventQuery{}).status().code(), absl::StatusCode::kDataLoss);
  ASSERT_TRUE(recorder_.WaitForTrouble("kept as"));
  ASSERT_TRUE(recorder_.WaitForEnd());
  LogAndWait(*store, "after");
  EXPECT_THAT(*Ask(*store, Store::EventQuery{}), SizeIs(1));
}

TEST_F(StoreTroubleTest, NotOneFileAfterAnotherIsSetAside) {
  WriteFile(path_, std::string(5000, 'x'));
  const auto store = Open();
  LogAndWait(*store, "a");
  SpoilPages(path_);
  store->LogEvent(Event("web", "started", "b"));
  ASSERT_TRUE(recorder_.WaitForTrouble("stays where it is"));
  ASSERT_TRUE(recorder_.WaitForEvents(2));
  EXPECT_EQ(recorder_.events()[1].id, 0);
  EXPECT_EQ(std::ranges::count_if(directory_.Names(),
                                  [](const std::string& name) { return name.find("malformed") != std::string::npos; }),
            1);
  std::filesystem::remove(path_);  // as the administrator would
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_EQ(MessagesOnDisk(path_), "b");
}

TEST_F(StoreTroubleTest, ADeletedDatabaseIsMadeAgain) {
  const auto store = Open();
  store->UpdateService(Service("web", "running"));
  store->UpdateService(Service("gone", "running"));
  store->RemoveServicesExcept({"web"});
  LogAndWait(*store, "before");
  for (const std::vector<std::string>& deleted :
       {std::vector<std::string>{"x.db", "x.db-wal", "x.db-shm"}, {"x.db"}, {"x.db", "x.db-wal"}}) {
    for (const std::string& name : deleted) {
      EXPECT_TRUE(std::filesystem::remove(directory_ / name)) << name;
    }
    LogAndWait(*store, "after");
    EXPECT_EQ(recorder_.events().back().id, 1);
    EXPECT_EQ(MessagesOnDisk(path_), "after");
    OtherProgram other(path_);
    EXPECT_EQ(other.Value("SELECT group_concat(id || '=' || state) FROM "
                          "(SELECT * FROM supervisor_services ORDER BY id)"),
              "supervisor=running,web=running");
    EXPECT_EQ(other.Value("PRAGMA integrity_check"), "ok");
    EXPECT_THAT(*Ask(*store, Store::EventQuery{}), SizeIs(1));
  }
  EXPECT_THAT(recorder_.troubles(), IsEmpty());
}

AlertRow FailedAlert(const std::string& service) {
  AlertRow alert;
  alert.service_id = service;
  alert.rule = "failed";
  alert.severity = "warning";
  alert.message = service + " has failed";
  alert.raised = absl::FromUnixMillis(1795419000987);
  return alert;
}

TEST_F(StoreTroubleTest, WhateverIsPutInItsPlaceIsToldWhatHolds) {
  const auto store = Open();
  store->UpdateService(Service("web", "running"));
  store->UpdateService(Service("removed later", "running"));
  store->RaiseAlert(FailedAlert("over"));
  LogAndWait(*store, "before");
  const std::string backup = directory_ / "backup.db";
  OtherProgram(path_).Run("VACUUM INTO '" + backup + "'");
  store->UpdateService(Service("web", "failed"));
  store->RemoveServicesExcept({"web"});
  store->RaiseAlert(FailedAlert("web"));
  store->ResolveAlert(FailedAlert("over"));
  LogAndWait(*store, "later");
  const std::string alerts =
      "SELECT group_concat(service_id || ' ' || raised_at) FROM supervisor_alerts WHERE resolved_at IS NULL";
  const std::string services =
      "SELECT group_concat(id || '=' || state) FROM (SELECT * FROM supervisor_services "
      "WHERE id NOT IN ('supervisor', 'over') ORDER BY id)";
  std::filesystem::rename(backup, path_);
  LogAndWait(*store, "after");
  EXPECT_EQ(OtherProgram(path_).Value(services), "removed later=stopped,web=failed");
  EXPECT_THAT(OtherProgram(path_).Value(alerts), HasSubstr("web 2026-11-23 07:30:00.987"));
  std::filesystem::remove(path_);
  LogAndWait(*store, "after");
  EXPECT_EQ(OtherProgram(path_).Value(services), "web=failed");
  EXPECT_EQ(OtherProgram(path_).Value(alerts), "web 2026-11-23 07:30:00.987");
}

TEST_F(StoreTroubleTest, ADeletedDirectoryIsMadeAgain) {
  const std::string sub = directory_ / "sub/deeper";
  path_ = sub + "/x.db";
  const auto store = Open();
  LogAndWait(*store, "before");
  std::filesystem::remove_all(directory_ / "sub");
  LogAndWait(*store, "after");
  EXPECT_EQ(MessagesOnDisk(path_), "after");
  struct stat info {};
  ASSERT_EQ(stat(sub.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0750);
}

// A backup put in place: the log of the old database lies beside it, and must not be taken for its own.
TEST_F(StoreTroubleTest, AReplacedDatabaseStaysWhatItIs) {
  {
    OtherProgram backup(directory_ / "backup.db");
    backup.Run(kContractSql);
    backup.Run("PRAGMA journal_mode = WAL; CREATE TABLE theirs (x); INSERT INTO theirs VALUES ('theirs')");
    backup.Run(
        "INSERT INTO supervisor_events (id, service_id, event_type, message) VALUES (500, 'web', 'ready', 'old')");
  }
  const auto store = Open();
  for (int i = 0; i < 20; ++i) {
    LogAndWait(*store, std::to_string(i));
  }
  ASSERT_TRUE(Ask(*store, Store::EventQuery{}).ok());
  std::filesystem::rename(path_, directory_ / "moved.db");
  std::filesystem::rename(directory_ / "backup.db", path_);
  LogAndWait(*store, "new");
  EXPECT_EQ(recorder_.events().back().id, 501);
  EXPECT_EQ(MessagesOnDisk(path_), "old,new");
  EXPECT_EQ(OtherProgram(path_).Value("SELECT x FROM theirs"), "theirs");
  EXPECT_EQ(OtherProgram(path_).Value("PRAGMA integrity_check"), "ok");
  EXPECT_EQ(OtherProgram(directory_ / "moved.db").Value("SELECT count(*) FROM supervisor_events"), "20");
  EXPECT_THAT(*Ask(*store, Store::EventQuery{}), SizeIs(2));
}

TEST_F(StoreTroubleTest, ADirectoryInItsPlaceIsReported) {
  std::filesystem::create_directory(path_);
  const auto store = Open();
  store->LogEvent(Event("web", "started", "a"));
  ASSERT_TRUE(recorder_.WaitForTrouble(path_ + ": is a directory"));
  ASSERT_TRUE(recorder_.WaitForEvents(1));
  EXPECT_FALSE(Ask(*store, Store::EventQuery{}).ok());
  std::filesystem::remove(path_);
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_EQ(MessagesOnDisk(path_), "a");
}

TEST_F(StoreTroubleTest, ASymbolicLinkIsNotFollowed) {
  WriteFile(directory_ / "shadow", "");
  std::filesystem::create_symlink("shadow", path_);
  const auto store = Open();
  store->LogEvent(Event("web", "started"));
  ASSERT_TRUE(recorder_.WaitForTrouble("is a symbolic link"));
  EXPECT_FALSE(Ask(*store, Store::EventQuery{}).ok());
  EXPECT_EQ(ReadFile(directory_ / "shadow"), "");
  std::filesystem::remove(path_);
  ASSERT_TRUE(recorder_.WaitForEnd());
}

TEST_F(StoreTroubleTest, ADirectoryThatCannotBeMadeRefusesToOpen) {
  WriteFile(directory_ / "file", "");
  Store::Options options;
  options.path = directory_ / "file/sub/x.db";
  const auto store = Store::Open(options, nullptr, nullptr);
  EXPECT_THAT(std::string(store.status().message()), HasSubstr("file: Not a directory (ENOTDIR)"));
}

TEST_F(StoreTroubleTest, ATableOfTheSameNameIsReportedAndLeftAlone) {
  OtherProgram other(path_);
  other.Run(
      "CREATE TABLE supervisor_events (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO supervisor_events VALUES (1, "
      "'x')");
  const std::string before = other.Dump({"supervisor_events"});
  const auto store = Open();
  store->LogEvent(Event("web", "started", "a"));
  ASSERT_TRUE(recorder_.WaitForTrouble("table supervisor_events lacks the columns service_id, event_type"));
  ASSERT_TRUE(recorder_.WaitForEvents(1));
  EXPECT_FALSE(Ask(*store, Store::EventQuery{}).ok());
  EXPECT_EQ(other.Dump({"supervisor_events"}), before);
  other.Run("ALTER TABLE supervisor_events RENAME TO theirs");
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_EQ(MessagesOnDisk(path_), "a");
}

TEST_F(StoreTroubleTest, ARefusedRowDoesNotHoldUpTheOthers) {
  const auto store = Open();
  LogAndWait(*store, "before");
  OtherProgram other(path_);
  other.Run(
      "CREATE TRIGGER theirs BEFORE INSERT ON supervisor_events WHEN new.message = 'bad' "
      "BEGIN SELECT raise(ABORT, 'not that one'); END");
  for (const std::string message : {"good", "bad", "better"}) {
    store->LogEvent(Event("web", "started", message));
  }
  ASSERT_TRUE(recorder_.WaitForTrouble("not that one"));
  ASSERT_TRUE(recorder_.WaitForEvents(4));
  LogAndWait(*store, "after");
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_EQ(MessagesOnDisk(path_), "before,good,better,after");
  EXPECT_EQ(store->Stats().dropped_rows, 1);
  for (const EventRow& row : recorder_.events()) {
    EXPECT_EQ(row.id == 0, row.message == "bad") << row.message;
  }
}

TEST_F(StoreTroubleTest, NoDescriptorsLeft) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const UniqueFd next(open("/dev/null", O_RDONLY | O_CLOEXEC));
  rlimit low = before;
  low.rlim_cur = static_cast<rlim_t>(next.get());
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  const auto store = Open();
  store->LogEvent(Event("web", "started", "a"));
  const bool reported = recorder_.WaitForTrouble("EMFILE");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(reported);
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_EQ(MessagesOnDisk(path_), "a");
}

TEST_F(StoreTroubleTest, AReadOnlyFileSystem) {
  PrivateMount mount(directory_ / "mnt", "size=4m");
  if (!mount.ok()) {
    GTEST_SKIP() << "not permitted to mount";
  }
  path_ = mount.path() + "/x.db";
  Open().reset();
  ASSERT_TRUE(mount.Remount("ro"));
  const auto store = Open();
  store->LogEvent(Event("web", "started", "a"));
  ASSERT_TRUE(recorder_.WaitForTrouble("read-only"));
  ASSERT_TRUE(recorder_.WaitForEvents(1));
  ASSERT_TRUE(mount.Remount("rw"));
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_EQ(MessagesOnDisk(path_), "a");
  EXPECT_THAT(recorder_.troubles(), SizeIs(2));
}

// The reader's connection is one of a time when nobody could write: it must not keep the writer from doing so.
TEST_F(StoreTroubleTest, AReadOnlyFileSystemThatIsRead) {
  PrivateMount mount(directory_ / "mnt", "size=16m");
  if (!mount.ok()) {
    GTEST_SKIP() << "not permitted to mount";
  }
  path_ = mount.path() + "/x.db";
  const std::string kept = directory_ / "kept.db";
  {
    const auto store = Open();
    store->LogEvent(Event("web", "started", "a"));
    ASSERT_TRUE(recorder_.WaitForEvents(1));
    for (const std::string suffix : {"", "-wal", "-shm"}) {
      std::filesystem::copy_file(path_ + suffix, kept + suffix);
    }
  }
  for (const std::string suffix : {"", "-wal", "-shm"}) {  // as a kill leaves it
    std::filesystem::copy_file(kept + suffix, path_ + suffix, std::filesystem::copy_options::overwrite_existing);
  }
  ASSERT_TRUE(mount.Remount("ro"));
  const auto store = Open();
  store->LogEvent(Event("web", "started", "b"));
  ASSERT_TRUE(recorder_.WaitForTrouble("SQLITE_READONLY"));
  const absl::StatusOr<std::vector<EventRow>> rows = Ask(*store, Store::EventQuery{});
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_THAT(*rows, SizeIs(1));
  ASSERT_TRUE(mount.Remount("rw"));
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_EQ(MessagesOnDisk(path_), "a,b");
}

TEST_F(StoreTroubleTest, AFullDisk) {
  PrivateMount mount(directory_ / "mnt", "size=2m");
  if (!mount.ok()) {
    GTEST_SKIP() << "not permitted to mount";
  }
  path_ = mount.path() + "/x.db";
  auto store = Open();
  LogAndWait(*store, "before");
  const std::string filler = mount.path() + "/filler";
  WriteFile(filler, std::string(4 << 20, 'x'));  // as much as goes in
  for (int i = 0; i < 200; ++i) {
    store->LogEvent(Event("web", "started", std::string(1000, 'y')));
  }
  ASSERT_TRUE(recorder_.WaitForTrouble("SQLITE_FULL")) << ::testing::PrintToString(recorder_.troubles());
  ASSERT_TRUE(recorder_.WaitForEvents(201));
  store->UpdateService(Service("web", "failed"));
  std::filesystem::remove(filler);
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_EQ(store->Stats().dropped_rows, 0);
  EXPECT_THAT(recorder_.events(), SizeIs(201));  // none twice
  store.reset();
  OtherProgram other(path_);
  EXPECT_EQ(other.Value("SELECT count(*) FROM supervisor_events"), "201");
  EXPECT_EQ(other.Value("SELECT state FROM supervisor_services WHERE id = 'web'"), "failed");
  EXPECT_EQ(other.Value("PRAGMA integrity_check"), "ok");
}

TEST_F(StoreTroubleTest, AFullDiskFromTheStart) {
  PrivateMount mount(directory_ / "mnt", "size=1m");
  if (!mount.ok()) {
    GTEST_SKIP() << "not permitted to mount";
  }
  path_ = mount.path() + "/x.db";
  const std::string filler = mount.path() + "/filler";
  WriteFile(filler, std::string(4 << 20, 'x'));
  const auto store = Open();
  store->LogEvent(Event("web", "started", "a"));
  ASSERT_TRUE(recorder_.WaitForTrouble("SQLITE_FULL")) << ::testing::PrintToString(recorder_.troubles());
  std::filesystem::remove(filler);
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_EQ(MessagesOnDisk(path_), "a");
}

}  // namespace
}  // namespace supervisor
