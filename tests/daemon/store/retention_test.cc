#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/clock.h"
#include "common/time_format.h"
#include "daemon/store/schema.h"
#include "tests/daemon/store/store_fixture.h"

namespace supervisor {
namespace {

// Tells of each row that goes. The store's own thread calls it, when one is deleted from the test's table.
class RetentionTest : public ::testing::Test {
 protected:
  static StoreTuning Tuning() {
    StoreTuning tuning = FastTuning();
    tuning.retention_first = absl::ZeroDuration();
    tuning.retention_pause = absl::Milliseconds(1);
    tuning.retention_held_back = absl::Milliseconds(10);
    tuning.retention_step = 10;
    return tuning;
  }

  std::unique_ptr<Store> Open(absl::Duration metrics, absl::Duration events, StoreTuning tuning = Tuning()) {
    Store::Options options;
    options.path = path_;
    options.metrics_retention = metrics;
    options.events_retention = events;
    return *SqliteStore::Open(options, tuning, recorder_.OnCommitted(), recorder_.OnTrouble());
  }

  // `count` metrics and events an hour apart, the newest now.
  void Fill(int count) {
    Recorder recorder;
    StoreTuning tuning = FastTuning();
    const auto store = OpenStore(path_, recorder, tuning);
    for (int i = 0; i < count; ++i) {
      const absl::Time at = WallNow() - absl::Hours(count - 1 - i);
      store->RecordMetrics(Metrics("web", at, i));
      EventRow event = Event("web", "started", std::to_string(i));
      event.timestamp = at;
      store->LogEvent(event);
    }
  }

  // Reads until the number is there; each look is a question to the store, which takes turns with retention.
  bool WaitForCount(Store& store, size_t metrics, size_t events) {
    const MonoTime until = MonotonicNow() + absl::Seconds(30);
    while (MonotonicNow() < until) {
      const auto m = Ask(store, Store::MetricQuery{.service_id = "web"});
      const auto e = Ask(store, Store::EventQuery{.service_ids = {"web"}, .limit = 10'000});
      if (m.ok() && e.ok() && m->size() == metrics && e->size() == events) {
        return true;
      }
    }
    return false;
  }

  TemporaryDirectory directory_;
  std::string path_ = directory_ / "x.db";
  Recorder recorder_;
};

TEST_F(RetentionTest, OldRowsGoStepByStepAndNewOnesStay) {
  Fill(300);
  const auto store = Open(absl::Hours(99.5), absl::Hours(149.5));
  EXPECT_TRUE(WaitForCount(*store, 100, 150));
  const auto rows = Ask(*store, Store::EventQuery{.service_ids = {"web"}, .limit = 1000});
  EXPECT_EQ(rows->front().message, "150");
  EXPECT_EQ(rows->back().message, "299");
}

TEST_F(RetentionTest, ALimitOfZeroKeepsEverything) {
  Fill(50);
  const auto store = Open(absl::ZeroDuration(), absl::Hours(9.5));
  EXPECT_TRUE(WaitForCount(*store, 50, 10));
}

TEST_F(RetentionTest, AChangedLimitIsAppliedSoon) {
  Fill(50);
  StoreTuning tuning = Tuning();
  tuning.retention_interval = absl::Hours(1000);
  const auto store = Open(absl::ZeroDuration(), absl::ZeroDuration(), tuning);
  store->SetRetention(absl::Hours(4.5), absl::Hours(9.5));
  EXPECT_TRUE(WaitForCount(*store, 5, 10));
}

TEST_F(RetentionTest, TimesThatAreNumbersAreOthersToDelete) {
  Fill(1);
  {
    OtherProgram other(path_);
    other.Run(
        "INSERT INTO supervisor_events (service_id, event_type, timestamp) VALUES ('web', 'ready', 1000), "
        "('web', 'ready', NULL), ('web', 'ready', '2001-01-01 00:00:00')");
  }
  const auto store = Open(absl::Hours(1), absl::Hours(1));
  EXPECT_TRUE(WaitForCount(*store, 1, 3));
}

TEST_F(RetentionTest, ItGoesOnUnderAFloodOfRows) {
  Fill(300);
  const auto store = Open(absl::Hours(0.5), absl::Hours(0.5));
  const MonoTime until = MonotonicNow() + absl::Seconds(30);
  OtherProgram other(path_);
  bool gone = false;
  while (!gone && MonotonicNow() < until) {
    for (int i = 0; i < 200; ++i) {
      store->LogEvent(Event("flood", "started"));
    }
    gone = other.Value("SELECT count(*) FROM supervisor_events WHERE service_id = 'web'") == "1";
  }
  EXPECT_TRUE(gone);
}

TEST_F(RetentionTest, ALockedDatabaseIsTriedAgain) {
  Fill(50);
  OtherProgram other(path_);
  StoreTuning tuning = Tuning();
  tuning.retention_first = absl::Milliseconds(20);
  const auto store = Open(absl::Hours(4.5), absl::Hours(9.5), tuning);
  ASSERT_TRUE(Ask(*store, Store::EventQuery{}).ok());
  other.Run("BEGIN IMMEDIATE");
  store->LogEvent(Event("web", "ready"));
  ASSERT_TRUE(recorder_.WaitForTrouble("locked"));
  other.Run("COMMIT");
  EXPECT_TRUE(WaitForCount(*store, 5, 11));
}

// Until the store has given back what its file need not hold.
class SpaceTest : public RetentionTest {
 protected:
  static StoreTuning SmallSteps() {
    StoreTuning tuning = Tuning();
    tuning.retention_step = 500;
    tuning.space = {.step_pages = 16, .fewest_free_pages = 32};
    return tuning;
  }
  size_t Bytes() const { return std::filesystem::file_size(path_); }
  // Rows of a long time ago, as another program writes them: quicker than through the store.
  void FillWithOldRows(int count) const {
    OtherProgram other(path_);
    other.Run("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT " + std::to_string(count) +
              ") INSERT INTO supervisor_events (service_id, event_type, timestamp, message) "
              "SELECT 'web', 'started', '2020-01-01 00:00:00.000', printf('%0100d', i) FROM n");
    other.Run("PRAGMA wal_checkpoint(TRUNCATE)");
  }
  bool WaitForBytesBelow(Store& store, size_t most) {
    const MonoTime until = MonotonicNow() + absl::Seconds(60);
    while (Bytes() >= most && MonotonicNow() < until) {
      EXPECT_TRUE(Ask(store, Store::EventQuery{.limit = 1}).ok());
    }
    return Bytes() < most;
  }
};

TEST_F(SpaceTest, AFileThatHasLostItsRowsGetsSmall) {
  Fill(20);
  FillWithOldRows(20'000);
  ASSERT_GT(Bytes(), 3'000'000U);
  const auto store = Open(absl::Hours(99), absl::Hours(99), SmallSteps());
  EXPECT_TRUE(WaitForBytesBelow(*store, 600'000)) << Bytes();
  EXPECT_EQ(Ask(*store, Store::EventQuery{.service_ids = {"web"}, .limit = 1000})->size(), 20U);
}

TEST_F(SpaceTest, AReaderHoldsItBackOnlyAsLongAsItReads) {
  Fill(20);
  FillWithOldRows(20'000);
  const auto store = Open(absl::ZeroDuration(), absl::ZeroDuration(), SmallSteps());
  ASSERT_TRUE(Ask(*store, Store::EventQuery{.limit = 1}).ok());  // it has a write-ahead log from now on
  OtherProgram reader(path_);
  reader.Run("BEGIN");
  ASSERT_EQ(reader.Value("SELECT count(*) FROM supervisor_events"), "20020");
  store->SetRetention(absl::Hours(99), absl::Hours(99));
  EXPECT_TRUE(WaitForCount(*store, 20, 20));
  OtherProgram other(path_);
  const MonoTime until = MonotonicNow() + absl::Seconds(60);
  while (std::stoi(other.Value("PRAGMA page_count")) > 600'000 / 4096 && MonotonicNow() < until) {
    ASSERT_TRUE(Ask(*store, Store::EventQuery{.limit = 1}).ok());
  }
  EXPECT_GT(Bytes(), 3'000'000U) << "the reader's pages are there";
  reader.Run("COMMIT");
  EXPECT_TRUE(WaitForBytesBelow(*store, 600'000)) << Bytes();
}

TEST_F(SpaceTest, AFileThatAnOlderProgramMadeIsRewrittenOnce) {
  {
    OtherProgram older(path_);
    older.Run("PRAGMA auto_vacuum = NONE");
    older.Run(kCreateServices);
    older.Run(kCreateMetrics);
    older.Run(kCreateEvents);
  }
  Fill(20);
  FillWithOldRows(20'000);
  const auto store = Open(absl::Hours(99), absl::Hours(99), SmallSteps());
  EXPECT_TRUE(WaitForBytesBelow(*store, 600'000)) << Bytes();
  EXPECT_EQ(OtherProgram(path_).Value("PRAGMA auto_vacuum"), "2");
  EXPECT_EQ(OtherProgram(path_).Value("PRAGMA integrity_check"), "ok");
  EXPECT_EQ(Ask(*store, Store::EventQuery{.service_ids = {"web"}, .limit = 1000})->size(), 20U);
}

TEST_F(SpaceTest, AFileWithOthersTablesIsNeverRewritten) {
  {
    OtherProgram other(path_);
    other.Run("PRAGMA auto_vacuum = NONE");
    other.Run("CREATE TABLE theirs (x)");
  }
  Fill(20);
  FillWithOldRows(20'000);
  const auto store = Open(absl::Hours(99), absl::Hours(99), SmallSteps());
  EXPECT_TRUE(WaitForCount(*store, 20, 20));
  OtherProgram other(path_);
  EXPECT_EQ(other.Value("PRAGMA auto_vacuum"), "0");
  EXPECT_GT(Bytes(), 3'000'000U);
}

}  // namespace
}  // namespace supervisor
