#include "daemon/store/schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "common/clock.h"
#include "daemon/store/db_file.h"
#include "daemon/store/queries.h"
#include "daemon/store/row_writer.h"
#include "tests/daemon/store/contract_sql.h"
#include "tests/daemon/store/store_fixture.h"

namespace supervisor {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;

class SchemaTest : public ::testing::Test {
 protected:
  SqliteDatabase OpenOurs() const {
    EXPECT_TRUE(CreateDatabaseFile(path_).ok());
    return *SqliteDatabase::Open(path_, SqliteDatabase::Mode::kReadWrite);
  }
  absl::StatusOr<bool> Ensure() const {
    SqliteDatabase db = OpenOurs();
    return EnsureSchema(db, WallNow());
  }

  TemporaryDirectory directory_;
  std::string path_ = *ResolveDatabasePath(directory_ / "x.db");
};

TEST_F(SchemaTest, TheTablesAreTheContracts) {
  EXPECT_TRUE(*Ensure());
  OtherProgram ours(path_);
  OtherProgram contract(directory_ / "contract.db");
  contract.Run(kContractSql);
  for (const std::string table : {"supervisor_services", "supervisor_metrics", "supervisor_events"}) {
    for (const std::string pragma : {"table_xinfo", "foreign_key_list", "index_list"}) {
      const std::string sql = "SELECT * FROM pragma_" + pragma + "('" + table + "')" +
                              (pragma == "index_list" ? " WHERE name NOT LIKE 'idx_supervisor_%'" : "");
      EXPECT_EQ(ours.Rows(sql), contract.Rows(sql)) << sql;
    }
    const std::string text = "SELECT sql FROM sqlite_schema WHERE name = '" + table + "'";
    EXPECT_EQ(ours.Rows(text), contract.Rows(text));
  }
}

TEST_F(SchemaTest, EverythingElseIsNamedAfterUs) {
  ASSERT_TRUE(Ensure().ok());
  OtherProgram ours(path_);
  EXPECT_THAT(ours.Rows("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"),
              Each(::testing::ElementsAre(
                  AnyOf(::testing::StartsWith("3:supervisor_"), ::testing::StartsWith("3:idx_supervisor_")))));
  EXPECT_EQ(ours.Value("SELECT version FROM supervisor_schema"), std::to_string(kSchemaVersion));
}

TEST_F(SchemaTest, TheDaemonHasItsRow) {
  ASSERT_TRUE(Ensure().ok());
  OtherProgram ours(path_);
  const std::string sql = "SELECT name, state FROM supervisor_services WHERE id = 'supervisor'";
  EXPECT_THAT(ours.Rows(sql), ::testing::ElementsAre(::testing::ElementsAre("3:supervisor", "3:running")));
  ours.Run("UPDATE supervisor_services SET state = 'stopped', name = 'Mine', pid = 7");
  EXPECT_FALSE(*Ensure());
  EXPECT_THAT(ours.Rows(sql), ::testing::ElementsAre(::testing::ElementsAre("3:Mine", "3:running")));
}

TEST_F(SchemaTest, ASecondTimeChangesNothing) {
  ASSERT_TRUE(Ensure().ok());
  OtherProgram ours(path_);
  const std::string before = ours.Dump({"sqlite_schema", "supervisor_services", "supervisor_schema"});
  EXPECT_FALSE(*Ensure());
  EXPECT_EQ(ours.Dump({"sqlite_schema", "supervisor_services", "supervisor_schema"}), before);
}

TEST_F(SchemaTest, FilesOfEveryVersionBeforeAreTakenOver) {
  ASSERT_TRUE(Ensure().ok());
  for (const int version : {1, 2}) {
    OtherProgram ours(path_);
    ours.Run("INSERT INTO supervisor_alerts (service_id, rule, severity, message, raised_at) VALUES ('supervisor', 'r" +
             std::to_string(version) + "', 'warning', 'kept', '2026-11-23 07:28:15.000')");
    if (version == 1) {
      ours.Run(
          "DROP TABLE supervisor_alerts; DROP TABLE supervisor_usage; DROP INDEX idx_supervisor_metrics_span;"
          "CREATE INDEX idx_supervisor_metrics_service ON supervisor_metrics (service_id, timestamp)");
    } else {
      ours.Run("DROP INDEX idx_supervisor_alerts_owed; ALTER TABLE supervisor_alerts DROP COLUMN owed");
    }
    ours.Run("UPDATE supervisor_schema SET version = " + std::to_string(version) +
             "; PRAGMA user_version = " + std::to_string(version));
    ASSERT_TRUE(Ensure().ok()) << version;
    EXPECT_EQ(ours.Value("SELECT version FROM supervisor_schema"), std::to_string(kSchemaVersion));
    EXPECT_EQ(ours.Value("PRAGMA user_version"), std::to_string(kSchemaVersion));
    EXPECT_EQ(ours.Value("SELECT count(*) FROM supervisor_alerts WHERE owed IS NULL AND message = 'kept'"),
              version == 1 ? "0" : "1");
    EXPECT_EQ(ours.Value("SELECT count(*) FROM sqlite_schema WHERE name = 'idx_supervisor_metrics_service'"), "0");
    EXPECT_EQ(ours.Value("SELECT count(*) FROM sqlite_schema WHERE name IN ('idx_supervisor_metrics_span', "
                         "'idx_supervisor_alerts_owed')"),
              "2");
  }
}

TEST_F(SchemaTest, UserVersionBelongsToOthers) {
  OtherProgram other(path_);
  other.Run("PRAGMA user_version = 4711; PRAGMA application_id = 99");
  ASSERT_TRUE(Ensure().ok());
  EXPECT_EQ(other.Value("PRAGMA user_version"), "4711");
  EXPECT_EQ(other.Value("PRAGMA application_id"), "99");
}

TEST_F(SchemaTest, ANewerVersionIsLeftAlone) {
  ASSERT_TRUE(Ensure().ok());
  OtherProgram other(path_);
  other.Run("UPDATE supervisor_schema SET version = 77");
  ASSERT_TRUE(Ensure().ok());
  EXPECT_EQ(other.Value("SELECT group_concat(version) FROM supervisor_schema"), "77");
}

TEST_F(SchemaTest, MoreColumnsThanOursAreFine) {
  OtherProgram other(path_);
  other.Run(kContractSql);
  other.Run("ALTER TABLE supervisor_events ADD COLUMN seen INTEGER DEFAULT 0");
  EXPECT_FALSE(*Ensure());
}

TEST_F(SchemaTest, MissingColumnsAreNamedAndNothingIsMade) {
  OtherProgram other(path_);
  other.Run(
      "CREATE TABLE Supervisor_Events (ID INTEGER PRIMARY KEY, service_id TEXT, event_type TEXT, timestamp TEXT)");
  const std::string before = other.Dump({"sqlite_schema"});
  const absl::StatusOr<bool> result = Ensure();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(result.status().message()),
              AllOf(HasSubstr(path_), HasSubstr("table supervisor_events lacks the columns message, details")));
  EXPECT_EQ(other.Dump({"sqlite_schema"}), before);
}

// Every statement that is ever prepared goes by an index, with statistics and without: with millions of rows a scan
// would hold up everything behind it.
TEST_F(SchemaTest, NoStatementScansWhatGrows) {
  ASSERT_TRUE(Ensure().ok());
  OtherProgram ours(path_);
  std::vector<std::string> statements = RowReader::Sql();
  std::ranges::move(RowWriter::Sql(), std::back_inserter(statements));
  ASSERT_GT(statements.size(), 25U);
  for (const bool analyzed : {false, true}) {
    if (analyzed) {
      ours.Run(
          "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000) "
          "INSERT INTO supervisor_events (service_id, event_type) SELECT 's' || (i % 7), 'started' FROM n;"
          "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000) "
          "INSERT INTO supervisor_metrics (service_id, response_time_ms) SELECT 's' || (i % 7), i FROM n;"
          "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000) "
          "INSERT INTO supervisor_usage (service_id, timestamp) SELECT 's' || (i % 7), i FROM n;"
          "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000) "
          "INSERT INTO supervisor_alerts (service_id, rule, severity, raised_at, resolved_at) "
          "SELECT 's' || (i % 7), 'failed', 'warning', i, i FROM n; ANALYZE");
    }
    for (const std::string& sql : statements) {
      for (const auto& step : ours.Rows("EXPLAIN QUERY PLAN " + sql)) {
        // As many rows as services are configured, or as alerts are open: few, whatever the history holds. A count of
        // rows that an index found is no scan of a table.
        if (step[3].find("SCAN supervisor_services") != std::string::npos ||
            step[3].find("INDEX idx_supervisor_alerts_open") != std::string::npos ||
            step[3].find("INDEX idx_supervisor_alerts_owed") != std::string::npos ||
            step[3].find("SCAN (subquery") != std::string::npos ||
            ((sql == kSelectOpenAlerts || sql == kSelectOwedAlerts) &&
             step[3].find("TEMP B-TREE") != std::string::npos)) {
          continue;
        }
        EXPECT_THAT(step[3], AllOf(Not(HasSubstr("SCAN")), Not(HasSubstr("TEMP B-TREE")))) << sql;
        // A service has millions of events: one of them is found by its time.
        if (sql.find("event_type = ?2") != std::string::npos) {
          EXPECT_THAT(step[3], AnyOf(HasSubstr("idx_supervisor_events_timestamp"), HasSubstr("INTEGER PRIMARY KEY"),
                                     HasSubstr("SUBQUERY")))
              << sql;
        }
      }
    }
  }
  const auto uses = [&](const std::string& sql, const std::string& index) {
    return ours.Rows("EXPLAIN QUERY PLAN " + sql)[0][3].find(index) != std::string::npos;
  };
  EXPECT_TRUE(uses(kSelectEvents, "INTEGER PRIMARY KEY"));
  EXPECT_TRUE(uses(kSelectEventsInSpan, "idx_supervisor_events_timestamp (timestamp>? AND timestamp<?)"));
  EXPECT_TRUE(uses(kSelectEventsOfService, "idx_supervisor_events_service (service_id=? AND id>?)") ||
              uses(kSelectEventsOfService, "idx_supervisor_events_service (service_id=? AND rowid>?)"))
      << ours.Rows("EXPLAIN QUERY PLAN " + std::string(kSelectEventsOfService))[0][3];
  EXPECT_TRUE(uses(kSelectMetricSpan, "COVERING INDEX idx_supervisor_metrics_span"));
  EXPECT_TRUE(uses(kSelectUsageSpan, "PRIMARY KEY (service_id=? AND timestamp>? AND timestamp<?)"));
  EXPECT_TRUE(uses(kSelectOpenAlerts, "idx_supervisor_alerts_open"));
  EXPECT_TRUE(uses(kSelectAlerts, "INTEGER PRIMARY KEY"));
  EXPECT_TRUE(uses(kSelectRestarts, "idx_supervisor_events_timestamp (timestamp>?)"));
  EXPECT_TRUE(uses(kResolveAlert, "idx_supervisor_alerts_open (service_id=? AND rule=?)"));
  EXPECT_TRUE(
      uses(kSelectMetrics, "COVERING INDEX idx_supervisor_metrics_span (service_id=? AND timestamp>? AND timestamp<?)"))
      << ours.Rows("EXPLAIN QUERY PLAN " + std::string(kSelectMetrics))[0][3];
  EXPECT_TRUE(uses(kSelectHealth, "idx_supervisor_metrics_health (service_id=? AND timestamp>? AND timestamp<?)"));
}

}  // namespace
}  // namespace supervisor
