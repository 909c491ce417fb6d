#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "common/clock.h"
#include "daemon/store/store.h"
#include "tests/daemon/store/store_fixture.h"

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// The functions beside events and metrics: alerts, usage, spans, rows of services, the summary, cleaning up.
class TypedStoreTest : public ::testing::Test {
 protected:
  std::unique_ptr<Store> Open() { return OpenStore(path_, recorder_); }

  template <typename Result, typename Ask>
  static Result AskFor(Ask ask) {
    std::promise<absl::StatusOr<Result>> answer;
    ask([&](absl::StatusOr<Result> result) { answer.set_value(std::move(result)); });
    absl::StatusOr<Result> result = answer.get_future().get();
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : Result{};
  }
  static std::vector<AlertRow> Alerts(Store& store, bool all) {
    return AskFor<std::vector<AlertRow>>(
        [&](auto done) { store.QueryAlerts({.include_resolved = all, .limit = 50}, done); });
  }
  static AlertRow Alert(std::string service, std::string rule) {
    return {.id = 0,
            .service_id = std::move(service),
            .rule = std::move(rule),
            .severity = "warning",
            .message = "message",
            .dependents = {"app", "worker:0"},
            .raised = absl::FromUnixMillis(1795419000987),
            .resolved = std::nullopt};
  }

  TemporaryDirectory directory_;
  std::string path_ = directory_ / "x.db";
  Recorder recorder_;
};

TEST_F(TypedStoreTest, AnAlertIsOpenUntilItIsResolvedAndIsKept) {
  const auto store = Open();
  store->RaiseAlert(Alert("web", "failed"));
  store->RaiseAlert(Alert("db", "failed"));
  auto open = Alerts(*store, false);
  ASSERT_THAT(open, SizeIs(2));
  EXPECT_EQ(open[0].service_id, "web");
  EXPECT_EQ(open[0].rule, "failed");
  EXPECT_EQ(open[0].severity, "warning");
  EXPECT_EQ(open[0].message, "message");
  EXPECT_THAT(open[0].dependents, ElementsAre("app", "worker:0"));
  EXPECT_EQ(open[0].raised, absl::FromUnixMillis(1795419000987));
  EXPECT_FALSE(open[0].resolved.has_value());
  AlertRow over = Alert("web", "failed");
  over.resolved = open[0].raised + absl::Seconds(5);
  store->ResolveAlert(over);
  EXPECT_THAT(Alerts(*store, false), SizeIs(1));
  const auto all = Alerts(*store, true);
  ASSERT_THAT(all, SizeIs(2));
  EXPECT_EQ(all[0].id, open[0].id);
  EXPECT_EQ(all[0].resolved, over.resolved);
}

TEST_F(TypedStoreTest, OneOfARuleIsOpenHoweverOftenItIsRaised) {
  const auto store = Open();
  store->RaiseAlert(Alert("web", "failed"));
  AlertRow again = Alert("web", "failed");
  again.message = "another";
  again.raised += absl::Hours(1);
  store->RaiseAlert(again);
  const auto open = Alerts(*store, true);
  ASSERT_THAT(open, SizeIs(1));
  EXPECT_EQ(open[0].message, "another");
  EXPECT_EQ(open[0].raised, Alert("web", "failed").raised);
  store->ResolveAlert(again);
  store->RaiseAlert(Alert("web", "failed"));
  EXPECT_THAT(Alerts(*store, true), SizeIs(2));
}

TEST_F(TypedStoreTest, OneThatTheDatabaseHasLostIsKeptAsOver) {
  const auto store = Open();
  store->ResolveAlert(Alert("web", "failed"));
  EXPECT_THAT(Alerts(*store, false), IsEmpty());
  EXPECT_THAT(Alerts(*store, true), SizeIs(1));
}

TEST_F(TypedStoreTest, AnAlertKnowsWhoHasNotBeenTold) {
  const auto store = Open();
  const auto owed = [&] {
    return AskFor<std::vector<AlertRow>>([&](auto done) { store->QueryAlerts({.only_owed = true}, done); });
  };
  AlertRow row = Alert("web", "failed");
  row.owed = {"webhook a:80", "slack (2)"};
  store->RaiseAlert(row);
  store->RaiseAlert(Alert("db", "failed"));
  ASSERT_THAT(owed(), SizeIs(1));
  EXPECT_THAT(owed()[0].owed, ElementsAre("webhook a:80", "slack (2)"));
  row.owed = {"slack (2)"};
  store->AlertTold(row);
  EXPECT_THAT(owed()[0].owed, ElementsAre("slack (2)"));
  row.resolved = row.raised + absl::Seconds(5);
  row.owed = {"webhook a:80", "slack (2)"};
  store->ResolveAlert(row);
  EXPECT_THAT(owed()[0].owed, SizeIs(2));
  EXPECT_EQ(owed()[0].resolved, row.resolved);
  row.owed = {};
  store->AlertTold(row);
  EXPECT_THAT(owed(), IsEmpty());
  EXPECT_THAT(Alerts(*store, true), SizeIs(2));
}

TEST_F(TypedStoreTest, ASpanHasUsageBesideMetrics) {
  const auto store = Open();
  const absl::Time now = WallNow();
  store->RecordMetrics(Metrics("web", now - absl::Seconds(20), 4));
  store->RecordMetrics(Metrics("web", now - absl::Seconds(10), 8));
  store->RecordUsage({.service_id = "web",
                      .timestamp = absl::FromUnixMillis(absl::ToUnixMillis(now - absl::Seconds(10))),
                      .processes = 3,
                      .descriptors = 17,
                      .read_bytes_per_second = 1024.0,
                      .written_bytes_per_second = std::nullopt});
  const auto span = AskFor<MetricSpan>([&](auto done) { store->QueryMetricSpan({.service_id = "web"}, done); });
  ASSERT_THAT(span.points, SizeIs(2));
  EXPECT_EQ(span.points[1].values[static_cast<size_t>(Metric::kProcesses)], 3);
  EXPECT_EQ(span.points[1].values[static_cast<size_t>(Metric::kDescriptors)], 17);
  EXPECT_FALSE(span.points[1].values[static_cast<size_t>(Metric::kWritten)].has_value());
  EXPECT_EQ(span.summaries[0].mean, 6);
  const auto usage = AskFor<std::vector<UsageRow>>([&](auto done) { store->QueryUsage({.service_id = "web"}, done); });
  ASSERT_THAT(usage, SizeIs(1));
  EXPECT_EQ(usage[0].descriptors, 17);
}

TEST_F(TypedStoreTest, ServicesAndTheSummary) {
  const auto store = Open();
  store->UpdateService(Service("web", "running"));
  store->UpdateService(Service("api", "running"));
  store->UpdateService(Service("db", "failed"));
  store->LogEvent(Event("web", "started"));
  EventRow old = Event("web", "started");
  old.timestamp = WallNow() - absl::Hours(30);
  store->LogEvent(old);
  store->RaiseAlert(Alert("db", "failed"));
  const auto rows = AskFor<std::vector<ServiceRow>>([&](auto done) { store->QueryServices({"db", "web"}, done); });
  ASSERT_THAT(rows, SizeIs(2));
  EXPECT_EQ(rows[0].id, "db");
  EXPECT_EQ(rows[0].state, "failed");
  const auto summary = AskFor<StoreSummary>([&](auto done) { store->QuerySummary(done); });
  EXPECT_EQ(summary.services_by_state.at("running"), 2);
  EXPECT_EQ(summary.services_by_state.at("failed"), 1);
  EXPECT_EQ(summary.open_alerts, 1);
  EXPECT_EQ(summary.events_last_day, 1);
}

TEST_F(TypedStoreTest, AnEventIsAmended) {
  const auto store = Open();
  EventRow row = Event("web", "exited");
  row.timestamp = WallNow();
  row.details = R"({"exit_code":3})";
  store->LogEvent(row);
  store->LogEvent(Event("api", "exited"));
  store->AmendEvent(
      {.service_id = "web", .event_type = "exited", .timestamp = row.timestamp, .last_lines = R"(["a","b"])"});
  store->AmendEvent(
      {.service_id = "gone", .event_type = "exited", .timestamp = row.timestamp, .last_lines = R"(["c"])"});
  const auto events = Ask(*store, Store::EventQuery{});
  ASSERT_TRUE(events.ok());
  ASSERT_THAT(*events, SizeIs(2));
  EXPECT_EQ(events->at(0).details, R"({"exit_code":3,"last_lines":["a","b"]})");
  EXPECT_EQ(events->at(1).details, "{}");
}

TEST_F(TypedStoreTest, CleaningUpLeavesWhatIsOpen) {
  const auto store = Open();
  AlertRow old = Alert("web", "failed");
  old.raised = WallNow() - absl::Hours(24 * 365);
  store->RaiseAlert(old);
  AlertRow over = Alert("db", "failed");
  over.raised = old.raised;
  over.resolved = old.raised + absl::Hours(1);
  store->ResolveAlert(over);
  ASSERT_THAT(Alerts(*store, true), SizeIs(2));
  store->CleanUp();
  const MonoTime until = MonotonicNow() + absl::Seconds(30);
  while (Alerts(*store, true).size() > 1 && MonotonicNow() < until) {
  }
  const auto left = Alerts(*store, true);
  ASSERT_THAT(left, SizeIs(1));
  EXPECT_EQ(left[0].service_id, "web");
}

}  // namespace
}  // namespace supervisor
