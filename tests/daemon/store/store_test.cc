#include "daemon/store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <future>
#include <limits>
#include <thread>

#include "common/clock.h"
#include "common/loop_thread.h"
#include "common/time_format.h"
#include "daemon/store/sqlite.h"
#include "tests/daemon/store/contract_sql.h"
#include "tests/daemon/store/store_fixture.h"

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class StoreTest : public ::testing::Test {
 protected:
  std::unique_ptr<Store> Open() { return OpenStore(path_, recorder_); }

  TemporaryDirectory directory_;
  std::string path_ = directory_ / "x.db";
  Recorder recorder_;
};

std::vector<std::string> Messages(const std::vector<EventRow>& rows) {
  std::vector<std::string> messages;
  for (const EventRow& row : rows) {
    messages.push_back(row.message);
  }
  return messages;
}

#ifdef SUPERVISOR_FAIL_POINTS
// What every scenario of these builds relies on.
TEST_F(StoreTest, OnTheThreadOfALoopSqliteIsRefused) {
  EXPECT_DEATH(
      {
        const OnLoopThread here;
        SqliteDatabase::Open(path_, SqliteDatabase::Mode::kReadOnly).IgnoreError();
      },
      "SQLite on the thread of a loop");
}
#endif

TEST_F(StoreTest, AnEventIsCommittedAndFoundAgain) {
  const auto store = Open();
  EventRow row = Event("web", "exited", "code 3");
  row.timestamp = absl::FromUnixMillis(1795419000987);
  row.details = R"({"exit_code":3,"nested":{"actor":"inner"}})";
  row.actor = "uid 0 (root) pid 12 (supervisorctl)";
  store->LogEvent(row);
  ASSERT_TRUE(recorder_.WaitForEvents(1));
  const auto found = Ask(*store, Store::EventQuery{});
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_THAT(*found, SizeIs(1));
  for (const EventRow& seen : {recorder_.events()[0], found->front()}) {
    EXPECT_EQ(seen.id, 1);
    EXPECT_EQ(seen.service_id, "web");
    EXPECT_EQ(seen.event_type, "exited");
    EXPECT_EQ(seen.timestamp, row.timestamp);
    EXPECT_EQ(seen.message, row.message);
    EXPECT_EQ(seen.details, row.details);
    EXPECT_EQ(seen.actor, row.actor);
  }
  OtherProgram other(path_);
  EXPECT_EQ(other.Value("SELECT timestamp FROM supervisor_events"), "2026-11-23 07:30:00.987");
  EXPECT_EQ(other.Value("SELECT json_extract(details, '$.actor') FROM supervisor_events"), row.actor);
}

TEST_F(StoreTest, WhoWaitsForTheDiskFindsThereWhatWasQueuedBefore) {
  const auto store = Open();
  store->LogEvent(Event("web", "started"));
  ASSERT_TRUE(recorder_.WaitForEvents(1));  // the tables are there
  OtherProgram other(path_);
  for (int count = 2; count <= 100; ++count) {
    store->LogEvent(Event("web", "exited"));
    store->UpdateService(Service("web", "running " + std::to_string(count)));
    store->RecordMetrics(Metrics("web", WallNow(), 1));
    std::promise<void> written;
    store->WhenWritten([&] { written.set_value(); });
    ASSERT_EQ(written.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
    ASSERT_EQ(other.Value("SELECT count(*) FROM supervisor_events"), std::to_string(count));
    ASSERT_EQ(other.Value("SELECT count(*) FROM supervisor_metrics"), std::to_string(count - 1));
    ASSERT_EQ(other.Value("SELECT state FROM supervisor_services WHERE id = 'web'"),
              "running " + std::to_string(count));
  }
  bool told = false;
  store->WhenWritten([&] { told = true; });
  EXPECT_TRUE(told) << "nothing waits for the disk";
}

TEST_F(StoreTest, AnEventThatIsThereIsNotWrittenAgainButItsTwinOfAnotherPidIs) {
  const auto store = Open();
  EventRow first = Event("web", "exited", "exited with code 3");
  first.timestamp = absl::FromUnixMillis(1795419000987);
  first.details = R"({"pid":3101,"exit_code":3})";
  EventRow second = first;
  second.details = R"({"pid":3107,"exit_code":3})";
  EventRow unlike = first;
  unlike.details = "not json";
  store->LogEvent(first);
  size_t handed_on = 1;
  for (int round = 0; round < 2; ++round) {
    for (EventRow row : {first, second, unlike}) {
      row.unless_there = true;
      row.ticket = ++handed_on;
      store->LogEvent(row);
    }
  }
  ASSERT_TRUE(recorder_.WaitForEvents(handed_on));
  const auto found = Ask(*store, Store::EventQuery{});
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_THAT(*found, SizeIs(3));
  EXPECT_EQ((*found)[0].details, first.details);
  EXPECT_EQ((*found)[1].details, second.details);
}

TEST_F(StoreTest, EventsAreFoundByTheirTimeAndType) {
  const auto store = Open();
  const absl::Time first = absl::FromUnixMillis(1795419000000);
  for (int i = 0; i < 20; ++i) {
    EventRow row = Event(i % 2 == 0 ? "web" : "db", i % 4 < 2 ? "started" : "exited", std::to_string(i));
    row.timestamp = first + absl::Seconds(i);
    store->LogEvent(row);
  }
  const auto found = [&](const Store::EventQuery& query) { return Messages(*Ask(*store, query)); };
  const absl::Time since = first + absl::Seconds(15);
  EXPECT_THAT(found({.since = since}), ElementsAre("15", "16", "17", "18", "19"));
  EXPECT_THAT(found({.since = since, .until = since + absl::Seconds(1)}), ElementsAre("15", "16"));
  EXPECT_THAT(found({.until = first + absl::Seconds(1)}), ElementsAre("0", "1"));
  EXPECT_THAT(found({.since = since, .limit = 2}), ElementsAre("18", "19"));
  EXPECT_THAT(found({.service_ids = {"web"}, .since = since}), ElementsAre("16", "18"));
  EXPECT_THAT(found({.service_ids = {"web", "db"}, .since = since}), ElementsAre("15", "16", "17", "18", "19"));
  EXPECT_THAT(found({.types = {"exited"}, .limit = 3}), ElementsAre("15", "18", "19"));
  EXPECT_THAT(found({.service_ids = {"db"}, .types = {"exited", "failed"}, .limit = 2}), ElementsAre("15", "19"));
  EXPECT_THAT(found({.types = {"exited"}, .since = since}), ElementsAre("15", "18", "19"));
  EXPECT_THAT(found({.types = {"exited"}, .after_id = 17}), ElementsAre("18", "19"));
  EXPECT_THAT(found({.types = {"exit"}}), ElementsAre());
}

TEST_F(StoreTest, AnotherUsersPermissionToReadHoldsForAllFiles) {
  const auto mode_of = [](const std::string& path) {
    struct stat info {};
    return lstat(path.c_str(), &info) == 0 ? info.st_mode & 0777 : 0;
  };
  {
    const auto store = Open();
    store->LogEvent(Event("web", "started"));
    ASSERT_TRUE(recorder_.WaitForEvents(1));
    ASSERT_EQ(chmod(path_.c_str(), 0644), 0);
    store->LogEvent(Event("web", "exited"));
    ASSERT_TRUE(recorder_.WaitForEvents(2));
    EXPECT_EQ(mode_of(path_ + "-wal"), 0644U);
    EXPECT_EQ(mode_of(path_ + "-shm"), 0644U);
    // Somebody deletes it: the next one has the same.
    unlink(path_.c_str());
    store->LogEvent(Event("web", "started"));
    ASSERT_TRUE(recorder_.WaitForEvents(3));
    EXPECT_EQ(mode_of(path_), 0644U);
    EXPECT_EQ(mode_of(path_ + "-wal"), 0644U);
  }
  // After an orderly stop the file alone says all, to readers that may not write beside it.
  EXPECT_THAT(directory_.Names(), ElementsAre("x.db"));
  std::ifstream file(path_, std::ios::binary);
  std::string header(20, '\0');
  file.read(header.data(), static_cast<std::streamsize>(header.size()));
  EXPECT_EQ(header[18], 1) << "write-ahead logging";  // sqlite.org/fileformat2.html#file_format_version_numbers
  EXPECT_EQ(header[19], 1) << "write-ahead logging";
}

TEST_F(StoreTest, DetailsAreAlwaysAJsonObject) {
  const auto store = Open();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "{}"}, {"{}", "{}"}, {"not json", R"({"text":"not json"})"}, {"[1]", R"({"text":"[1]"})"}};
  for (const std::string actor : {"", "policy"}) {
    for (const auto& [details, expected] : cases) {
      EventRow row = Event("web", "started");
      row.details = details;
      row.actor = actor;
      store->LogEvent(row);
      const auto found = Ask(*store, Store::EventQuery{.limit = 1});
      EXPECT_EQ(found->at(0).details, expected);
      EXPECT_EQ(found->at(0).actor, actor);
    }
  }
}

TEST_F(StoreTest, TextsThatAreNoTextsAreRepaired) {
  const auto store = Open();
  store->LogEvent(Event("web", "exited", std::string("\xFF\0x", 3)));
  const auto found = Ask(*store, Store::EventQuery{});
  EXPECT_THAT(Messages(*found), ElementsAre("\xEF\xBF\xBD\xEF\xBF\xBDx"));
}

TEST_F(StoreTest, EventsOfTheDaemonBelongToItsRow) {
  const auto store = Open();
  store->LogEvent(Event("", "supervisor_started"));
  const auto found = Ask(*store, Store::EventQuery{.service_ids = {"supervisor"}});
  EXPECT_THAT(*found, SizeIs(1));
}

TEST_F(StoreTest, AMissingServiceRowIsMadeFirst) {
  {
    const auto store = Open();
    store->LogEvent(Event("web", "started"));
    store->RecordMetrics(Metrics("api", WallNow(), 1));
    ASSERT_TRUE(Ask(*store, Store::EventQuery{}).ok());
    store->UpdateService(Service("web", "running"));
  }
  OtherProgram other(path_);
  EXPECT_EQ(other.Value("SELECT group_concat(id || '=' || name || '=' || state) FROM "
                        "(SELECT * FROM supervisor_services ORDER BY id)"),
            "api=api=stopped,supervisor=supervisor=running,web=The web=running");
  EXPECT_THAT(other.Rows("PRAGMA foreign_key_check"), IsEmpty());
}

TEST_F(StoreTest, AServiceRowIsWrittenInFull) {
  const absl::Time at = absl::FromUnixMillis(1795419000987);
  ServiceRow row = Service("web", "running");
  row.description = "d";
  row.pid = 4711;
  row.port = 8080;
  row.start_time = at;
  row.uptime_seconds = 60;
  row.restart_count = 2;
  row.last_restart = at - absl::Seconds(1);
  row.priority = 5;
  row.critical = true;
  row.auto_restart = false;
  const auto store = Open();
  store->UpdateService(row);
  ASSERT_TRUE(Ask(*store, Store::EventQuery{}).ok());
  OtherProgram other(path_);
  const auto columns =
      "SELECT name, description, state, pid, port, start_time, uptime_seconds, restart_count, last_restart, priority, "
      "critical, auto_restart FROM supervisor_services WHERE id = 'web'";
  EXPECT_THAT(other.Rows(columns),
              ElementsAre(ElementsAre("3:The web", "3:d", "3:running", "1:4711", "1:8080", "3:2026-11-23 07:30:00.987",
                                      "1:60", "1:2", "3:2026-11-23 07:29:59.987", "1:5", "1:1", "1:0")));
  other.Run("UPDATE supervisor_services SET created_at = '2020-01-01 00:00:00', updated_at = '2020-01-01 00:00:00'");
  store->UpdateService(Service("web", "stopped"));
  ASSERT_TRUE(Ask(*store, Store::EventQuery{}).ok());
  EXPECT_THAT(other.Rows(columns), ElementsAre(ElementsAre("3:The web", "3:", "3:stopped", "5:", "5:", "5:", "1:0",
                                                           "1:0", "5:", "1:999", "1:0", "1:1")));
  EXPECT_EQ(other.Value("SELECT created_at FROM supervisor_services WHERE id = 'web'"), "2020-01-01 00:00:00");
  EXPECT_GT(other.Value("SELECT updated_at FROM supervisor_services WHERE id = 'web'"), "2025");
}

TEST_F(StoreTest, ServicesThatAreNotConfiguredAnyMoreAreStopped) {
  const auto store = Open();
  for (const std::string id : {"a", "b", "c"}) {
    ServiceRow row = Service(id, "running");
    row.pid = 7;
    store->UpdateService(row);
  }
  ASSERT_TRUE(Ask(*store, Store::EventQuery{}).ok());
  store->RemoveServicesExcept({"b"});
  store->UpdateService(Service("c", "starting"));
  ASSERT_TRUE(Ask(*store, Store::EventQuery{}).ok());
  OtherProgram other(path_);
  EXPECT_EQ(other.Value("SELECT group_concat(id || '=' || state || '=' || ifnull(pid, '')) FROM "
                        "(SELECT * FROM supervisor_services ORDER BY id)"),
            "a=stopped=,b=running=7,c=starting=,supervisor=running=");
}

TEST_F(StoreTest, QueriesSelectTheNewestOldestFirst) {
  const auto store = Open();
  for (int i = 1; i <= 20; ++i) {
    store->LogEvent(Event(i % 2 == 0 ? "even" : i % 3 == 0 ? "third" : "odd", "started", std::to_string(i)));
  }
  EXPECT_THAT(Messages(*Ask(*store, Store::EventQuery{.limit = 3})), ElementsAre("18", "19", "20"));
  EXPECT_THAT(Messages(*Ask(*store, Store::EventQuery{.after_id = 18})), ElementsAre("19", "20"));
  EXPECT_THAT(Messages(*Ask(*store, Store::EventQuery{.after_id = 3, .limit = 2})), ElementsAre("19", "20"));
  EXPECT_THAT(Messages(*Ask(*store, Store::EventQuery{.service_ids = {"even"}, .limit = 2})), ElementsAre("18", "20"));
  EXPECT_THAT(Messages(*Ask(*store, Store::EventQuery{.service_ids = {"even", "third", "even"}, .limit = 4})),
              ElementsAre("15", "16", "18", "20"));
  EXPECT_THAT(Messages(*Ask(*store, Store::EventQuery{.service_ids = {"third"}, .after_id = 3})),
              ElementsAre("9", "15"));
  EXPECT_THAT(*Ask(*store, Store::EventQuery{.service_ids = {"none"}}), IsEmpty());
  EXPECT_THAT(*Ask(*store, Store::EventQuery{.limit = 0}), IsEmpty());
  EXPECT_THAT(*Ask(*store, Store::EventQuery{.service_ids = {"even"}, .limit = 0}), IsEmpty());
  EXPECT_THAT(*Ask(*store, Store::EventQuery{.after_id = -5, .limit = SIZE_MAX}), SizeIs(20));
}

TEST_F(StoreTest, TheRestartsAreThoseOfThePolicy) {
  const auto store = Open();
  for (const char* details : {R"({"attempt":1,"delay_seconds":0.5})", R"({"pid":7})", R"({"attempt":0})", "no JSON"}) {
    EventRow row = Event(details[0] == 'n' ? "odd" : "web", "restarting");
    row.details = details;
    store->LogEvent(row);
  }
  EventRow started = Event("web", "started");
  started.details = R"({"attempt":1})";
  store->LogEvent(started);
  ASSERT_TRUE(recorder_.WaitForEvents(5));
  OtherProgram(path_).Run("UPDATE supervisor_events SET details = 'no JSON' WHERE service_id = 'odd'");
  std::promise<absl::StatusOr<std::vector<RestartRow>>> answer;
  store->QueryRestarts(absl::InfinitePast(), [&](auto rows) { answer.set_value(std::move(rows)); });
  const auto rows = answer.get_future().get();
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_THAT(*rows, SizeIs(1));
  EXPECT_EQ(rows->front().service_id, "web");
}

TEST_F(StoreTest, MetricsComeBackByTimeAndByHealth) {
  const auto store = Open();
  const absl::Time start = absl::FromUnixSeconds(1795419000);
  for (int i = 0; i < 10; ++i) {
    MetricRow row = Metrics("web", start + absl::Seconds(i), i);
    if (i % 5 == 0) {
      row.response_time_ms = 1.5;
      row.health_status = "healthy";
    }
    row.memory_mb = i == 9 ? std::optional(std::numeric_limits<double>::infinity()) : std::nullopt;
    store->RecordMetrics(row);
    store->RecordMetrics(Metrics("other", start, 99));
  }
  const auto cpus = [&](Store::MetricQuery query) {
    query.service_id = "web";
    const auto rows = Ask(*store, query);
    std::vector<double> values;
    for (const MetricRow& row : *rows) {
      values.push_back(*row.cpu_percent);
    }
    return values;
  };
  EXPECT_THAT(cpus({}), SizeIs(10));
  EXPECT_THAT(cpus({.limit = 2}), ElementsAre(8, 9));
  EXPECT_THAT(cpus({.since = start + absl::Seconds(8)}), ElementsAre(8, 9));
  EXPECT_THAT(cpus({.until = start + absl::Seconds(1)}), ElementsAre(0, 1));
  EXPECT_THAT(cpus({.since = start + absl::Seconds(2), .until = start + absl::Seconds(3)}), ElementsAre(2, 3));
  EXPECT_THAT(cpus({.health_only = true}), ElementsAre(0, 5));
  const auto last = Ask(*store, Store::MetricQuery{.service_id = "web", .limit = 1});
  EXPECT_EQ(last->at(0).timestamp, start + absl::Seconds(9));
  EXPECT_EQ(last->at(0).memory_mb, std::nullopt);  // what is not finite is no number in JSON
  EXPECT_EQ(last->at(0).health_status, "");
  EXPECT_EQ(last->at(0).response_time_ms, std::nullopt);
}

TEST_F(StoreTest, AQuerySeesEverythingQueuedBeforeIt) {
  const auto store = Open();
  for (int i = 1; i <= 200; ++i) {
    store->LogEvent(Event("web", "started", std::to_string(i)));
    store->RecordMetrics(Metrics("web", WallNow(), i));
    if (i % 20 == 0) {
      EXPECT_THAT(*Ask(*store, Store::EventQuery{.limit = 1000}), SizeIs(i));
      EXPECT_THAT(*Ask(*store, Store::MetricQuery{.service_id = "web"}), SizeIs(i));
    }
  }
}

TEST_F(StoreTest, TheDestructorWritesWhatIsQueued) {
  {
    const auto store = Open();
    for (int i = 0; i < 5000; ++i) {
      store->LogEvent(Event("web", "started"));
      store->RecordMetrics(Metrics("web", WallNow(), i));
    }
  }
  OtherProgram other(path_);
  EXPECT_EQ(other.Value("SELECT count(*) FROM supervisor_events"), "5000");
  EXPECT_EQ(other.Value("SELECT count(*) FROM supervisor_metrics"), "5000");
  EXPECT_THAT(recorder_.events(), SizeIs(5000));
}

TEST_F(StoreTest, AStoreThatStopsAtOnceLeavesADatabase) {
  Open().reset();
  EXPECT_THAT(directory_.Names(), ElementsAre("x.db"));  // the log went into it
  struct stat info {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640);
  OtherProgram other(path_);
  EXPECT_EQ(other.Value("SELECT state FROM supervisor_services WHERE id = 'supervisor'"), "running");
  EXPECT_EQ(other.Value("PRAGMA journal_mode"), "delete") << "readable without a file beside it";
}

TEST_F(StoreTest, QueriesOfAStoreThatStopsAreAnswered) {
  std::atomic<int> answers = 0;
  {
    const auto store = Open();
    for (int i = 0; i < 100; ++i) {
      store->LogEvent(Event("web", "started"));
      store->QueryEvents({}, [&answers](const absl::StatusOr<std::vector<EventRow>>& rows) {
        EXPECT_TRUE(rows.ok() || absl::IsCancelled(rows.status())) << rows.status();
        ++answers;
      });
    }
  }
  EXPECT_EQ(answers, 100);
}

TEST_F(StoreTest, IdsFollowThoseOfOtherPrograms) {
  const auto store = Open();
  store->LogEvent(Event("web", "started"));
  ASSERT_TRUE(recorder_.WaitForEvents(1));
  OtherProgram other(path_);
  other.Run("INSERT INTO supervisor_events (id, service_id, event_type) VALUES (1000, 'web', 'ready')");
  store->LogEvent(Event("web", "stopped"));
  ASSERT_TRUE(recorder_.WaitForEvents(2));
  EXPECT_EQ(recorder_.events()[1].id, 1001);
}

TEST_F(StoreTest, RowsOfOtherProgramsAreReadAsFarAsTheyGo) {
  const auto store = Open();
  ASSERT_TRUE(Ask(*store, Store::EventQuery{}).ok());
  OtherProgram other(path_);
  other.Run(
      "INSERT INTO supervisor_events (service_id, event_type, timestamp, message, details) VALUES "
      "('web', 'ready', '2026-11-23 07:30:00', NULL, NULL), ('web', 'ready', 1795419000, 'x', 'no json'), "
      "('web', 'ready', NULL, x'00ff', '{ \"a\": 1.50, \"actor\": \"me\" }')");
  const auto rows = Ask(*store, Store::EventQuery{});
  ASSERT_THAT(*rows, SizeIs(3));
  EXPECT_EQ(rows->at(0).timestamp, absl::FromUnixSeconds(1795419000));
  EXPECT_EQ(rows->at(0).details, "");
  EXPECT_EQ(rows->at(1).timestamp, absl::FromUnixSeconds(1795419000));
  EXPECT_EQ(rows->at(1).details, "no json");
  EXPECT_EQ(rows->at(2).details, R"({"a":1.50})");
  EXPECT_EQ(rows->at(2).actor, "me");
}

constexpr char kForeign[] = R"(
CREATE TABLE foreign_orders (id INTEGER PRIMARY KEY, what TEXT COLLATE NOCASE, blob BLOB);
CREATE INDEX foreign_index ON foreign_orders (what);
CREATE TRIGGER foreign_trigger AFTER INSERT ON foreign_orders BEGIN UPDATE foreign_orders SET what = 'x' WHERE id = 1; END;
CREATE VIEW foreign_view AS SELECT what FROM foreign_orders;
INSERT INTO foreign_orders VALUES (1, 'first', x'00ff'), (2, NULL, 1.5);
PRAGMA user_version = 31;
)";

TEST_F(StoreTest, AnExistingDatabaseIsTakenAsItIs) {
  OtherProgram other(path_);
  other.Run(kContractSql);
  other.Run(kForeign);
  other.Run(
      "BEGIN; INSERT INTO supervisor_services (id, name, state, pid) VALUES ('web', 'Web', 'running', 5), "
      "('old', 'Old', 'failed', NULL);"
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50000) INSERT INTO supervisor_events "
      "(service_id, event_type, timestamp, message) SELECT 'web', 'started', '2026-11-23 07:28:15', i FROM n;"
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50000) INSERT INTO supervisor_metrics "
      "(service_id, cpu_percent, response_time_ms) SELECT 'web', i, iif(i % 9 = 0, 3, NULL) FROM n; COMMIT");
  const std::vector<std::string> all = {"supervisor_services", "supervisor_events", "supervisor_metrics",
                                        "foreign_orders"};
  const std::string before = other.Dump(all);
  const auto store = Open();
  EXPECT_EQ(Messages(*Ask(*store, Store::EventQuery{.service_ids = {"web"}, .limit = 1})),
            std::vector<std::string>{"50000"});
  EXPECT_THAT(*Ask(*store, Store::MetricQuery{.service_id = "web", .limit = 5, .health_only = true}), SizeIs(5));
  other.Run("DELETE FROM supervisor_services WHERE id = 'supervisor'");  // the one row that is ours to add
  EXPECT_EQ(other.Dump(all), before);
  EXPECT_EQ(other.Value("PRAGMA user_version"), "31");
  EXPECT_EQ(other.Value("PRAGMA integrity_check"), "ok");
  store->LogEvent(Event("web", "stopped"));
  ASSERT_TRUE(recorder_.WaitForEvents(1));
  EXPECT_EQ(recorder_.events()[0].id, 50001);
  EXPECT_THAT(recorder_.troubles(), IsEmpty());
}

TEST_F(StoreTest, ManyThreadsAndAnotherProgramWriteAtOnce) {
  constexpr int kThreads = 4;
  constexpr int kEach = 500;
  std::atomic<bool> stop = false;
  int others = 0;
  {
    Store::Options options;
    options.path = path_;
    auto store = *Store::Open(options, recorder_.OnCommitted(), recorder_.OnTrouble());
    ASSERT_TRUE(Ask(*store, Store::EventQuery{}).ok());
    std::thread other_writer([&] {
      OtherProgram other(path_);
      while (!stop) {
        other.Run("INSERT INTO supervisor_events (service_id, event_type) VALUES ('supervisor', 'ready')");
        ++others;
      }
    });
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&store, t] {
        for (int i = 0; i < kEach; ++i) {
          store->LogEvent(Event("s" + std::to_string(t), "started", std::to_string(i)));
          store->RecordMetrics(Metrics("s" + std::to_string(t), WallNow(), i));
          store->UpdateService(Service("s" + std::to_string(t), "running"));
          if (i % 100 == 0) {
            store->QueryEvents({}, [](const auto& rows) {
              EXPECT_TRUE(rows.ok() || absl::IsCancelled(rows.status())) << rows.status();
            });
            store->Stats();
          }
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    ASSERT_TRUE(recorder_.WaitForEvents(kThreads * kEach));
    stop = true;
    other_writer.join();
  }
  OtherProgram other(path_);
  EXPECT_EQ(other.Value("SELECT count(*) FROM supervisor_events"), std::to_string(kThreads * kEach + others));
  EXPECT_EQ(other.Value("SELECT count(*) FROM supervisor_metrics"), std::to_string(kThreads * kEach));
  EXPECT_EQ(other.Value("PRAGMA integrity_check"), "ok");
  EXPECT_THAT(other.Rows("PRAGMA foreign_key_check"), IsEmpty());
  // Each is shown once: in order with its id, or with 0 where the other program left no gap for too long.
  EXPECT_THAT(recorder_.events(), SizeIs(kThreads * kEach));
  int64_t last = 0;
  int wrong = 0;
  for (const EventRow& row : recorder_.events()) {
    if (row.id == 0) {
      continue;
    }
    wrong += row.id <= last ? 1 : 0;
    last = row.id;
    wrong += other.Value("SELECT message FROM supervisor_events WHERE id = " + std::to_string(row.id)) != row.message;
  }
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace supervisor
