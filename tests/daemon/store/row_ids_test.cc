#include "daemon/store/row_ids.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "common/clock.h"
#include "tests/daemon/store/contract_sql.h"
#include "tests/daemon/store/store_fixture.h"

// SQLite's greatest id, which other programs can write, ends an AUTOINCREMENT table. It does not end the history.

namespace supervisor {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class RowIdsTest : public ::testing::Test {
 protected:
  std::unique_ptr<Store> Open() { return OpenStore(path_, recorder_); }

  void LogAndWait(Store& store, const std::string& message) {
    store.LogEvent(Event("web", "started", message));
    for (size_t looked_at = 0;; ++looked_at) {
      ASSERT_TRUE(recorder_.WaitForEvents(looked_at + 1));
      const EventRow event = recorder_.events()[looked_at];
      if (event.message == message) {
        ASSERT_GT(event.id, 0);
        return;
      }
    }
  }

  // What the store says of it among the events.
  bool WaitForNote() {
    for (size_t looked_at = 0; recorder_.WaitForEvents(looked_at + 1); ++looked_at) {
      if (recorder_.events()[looked_at].event_type == "note") {
        return recorder_.events()[looked_at].message == recorder_.troubles()[0];
      }
    }
    return false;
  }

  std::string EventsOnDisk() {
    return OtherProgram(path_).Value(
        "SELECT group_concat(id || '=' || message) FROM (SELECT * FROM supervisor_events WHERE service_id = 'web' "
        "ORDER BY id)");
  }

  TemporaryDirectory directory_;
  std::string path_ = std::filesystem::canonical(directory_.path()).string() + "/x.db";
  Recorder recorder_;
};

constexpr char kLastEvent[] =
    "INSERT INTO supervisor_events (id, service_id, event_type, message) VALUES (9223372036854775807, 'web', 'note', "
    "'theirs')";

TEST_F(RowIdsTest, ARowWithTheLastIdGetsANewOneWhenTheDatabaseIsOpened) {
  OtherProgram other(path_);
  other.Run(kContractSql);
  other.Run("INSERT INTO supervisor_events (service_id, event_type, message) VALUES ('web', 'note', 'before')");
  other.Run(kLastEvent);
  const auto store = Open();
  LogAndWait(*store, "ours");
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_THAT(EventsOnDisk(), AnyOf("1=before,2=theirs,3=ours", "1=before,2=theirs,4=ours"));  // the note is the other
  EXPECT_TRUE(WaitForNote());
  EXPECT_THAT(recorder_.troubles(),
              ElementsAre(AllOf(HasSubstr(path_), HasSubstr("supervisor_events had come to the id 9223372036854775807"),
                                HasSubstr("1 of its rows")),
                          ""));
}

TEST_F(RowIdsTest, ARowWithTheLastIdGetsANewOneWhileTheDaemonRuns) {
  const auto store = Open();
  LogAndWait(*store, "before");
  OtherProgram(path_).Run(kLastEvent);
  LogAndWait(*store, "ours");
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_EQ(EventsOnDisk(), "1=before,2=theirs,3=ours");
  EXPECT_THAT(recorder_.troubles(), ElementsAre(HasSubstr("supervisor_events had come to the id"), ""));
  EXPECT_EQ(store->Stats().dropped_rows, 0);
  EXPECT_TRUE(WaitForNote());
}

TEST_F(RowIdsTest, ASequenceThatADeletedRowLeftIsSetRight) {
  const auto store = Open();
  LogAndWait(*store, "before");
  OtherProgram other(path_);
  other.Run(kLastEvent);
  other.Run("DELETE FROM supervisor_events WHERE message = 'theirs'");
  LogAndWait(*store, "ours");
  EXPECT_EQ(EventsOnDisk(), "1=before,2=ours");
  EXPECT_TRUE(WaitForNote());
  EXPECT_EQ(other.Value("SELECT seq FROM sqlite_sequence WHERE name = 'supervisor_events'"), "3");
}

TEST_F(RowIdsTest, MetricsAndAlertsGoOnToo) {
  const auto store = Open();
  LogAndWait(*store, "before");
  OtherProgram other(path_);
  other.Run(
      "INSERT INTO supervisor_metrics (id, service_id, cpu_percent) VALUES (9223372036854775807, 'web', 1);"
      "INSERT INTO supervisor_alerts (id, service_id, rule, severity, raised_at) VALUES (9223372036854775807, 'web', "
      "'theirs', 'warning', '2026-01-01 00:00:00')");
  store->RecordMetrics(Metrics("web", WallNow(), 2));
  AlertRow alert;
  alert.service_id = "web";
  alert.rule = "failed";
  alert.severity = "warning";
  alert.raised = WallNow();
  store->RaiseAlert(alert);
  LogAndWait(*store, "after");
  ASSERT_TRUE(recorder_.WaitForEnd());
  EXPECT_EQ(other.Value("SELECT group_concat(id || '=' || cpu_percent) FROM supervisor_metrics"), "1=1.0,2=2.0");
  EXPECT_EQ(other.Value("SELECT group_concat(id || '=' || rule) FROM supervisor_alerts"), "1=theirs,2=failed");
  EXPECT_EQ(other.Value("PRAGMA integrity_check"), "ok");
}

// The sequence has not come to its end yet: what the daemon writes itself is what brings it there.
TEST_F(RowIdsTest, RowsKeepTheirOrderWhereSeveralGetNewIds) {
  const auto store = Open();
  LogAndWait(*store, "before");
  OtherProgram(path_).Run(
      "INSERT INTO supervisor_events (id, service_id, event_type, message) VALUES (9223372036854775803, 'web', 'note', "
      "'first'), (9223372036854775805, 'web', 'note', 'second')");
  LogAndWait(*store, "ours");
  EXPECT_EQ(EventsOnDisk(), "1=before,2=first,3=second,4=ours");
}

// A neighbour of the first id that is renumbered leaves no room below it.
TEST_F(RowIdsTest, ThereIsRoomWhateverIdsTheOthersHave) {
  const auto store = Open();
  LogAndWait(*store, "before");
  OtherProgram(path_).Run(
      fmt::format("INSERT INTO supervisor_events (id, service_id, event_type, message) VALUES ({}, 'web', 'note', "
                  "'high'), ({}, 'web', 'note', 'higher')",
                  kRenumberFrom - 1, kMostPossibleId));
  for (const char* message : {"a", "b", "c"}) {
    LogAndWait(*store, message);
  }
  EXPECT_THAT(EventsOnDisk(), StartsWith(fmt::format("1=before,{}=high,{}=higher,{}=a,", kRenumberFrom - 1,
                                                     kRenumberFrom, kRenumberFrom + 1)));
  EXPECT_THAT(recorder_.troubles(), ElementsAre(HasSubstr("had come to the id"), ""));
}

TEST_F(RowIdsTest, HighIdsThatArePossibleStayAsTheyAre) {
  const auto store = Open();
  LogAndWait(*store, "before");
  OtherProgram(path_).Run(
      "INSERT INTO supervisor_events (id, service_id, event_type, message) VALUES (1234567890123456789, 'web', 'note', "
      "'theirs')");
  LogAndWait(*store, "ours");
  EXPECT_EQ(EventsOnDisk(), "1=before,1234567890123456789=theirs,1234567890123456790=ours");
  EXPECT_THAT(recorder_.troubles(), IsEmpty());
}

}  // namespace
}  // namespace supervisor
