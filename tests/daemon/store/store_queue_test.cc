#include "daemon/store/store_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace supervisor {
namespace {

using ::testing::ElementsAre;

constexpr size_t kPlenty = 1 << 20;

ServiceRow Service(std::string id, std::string state, std::optional<int64_t> pid = 1) {
  ServiceRow row;
  row.id = std::move(id);
  row.state = std::move(state);
  row.pid = pid;
  return row;
}

EventRow Event(std::string message) {
  EventRow row;
  row.service_id = "web";
  row.message = std::move(message);
  return row;
}

MetricRow Metric(double cpu) {
  MetricRow row;
  row.service_id = "web";
  row.cpu_percent = cpu;
  return row;
}

std::vector<std::string> Messages(const StoreBatch& batch) {
  std::vector<std::string> messages;
  for (const QueuedEvent& event : batch.events) {
    messages.push_back(event.row.message);
  }
  return messages;
}

std::vector<double> Samples(const StoreBatch& batch) {
  std::vector<double> samples;
  for (const MetricRow& row : batch.metrics) {
    samples.push_back(row.cpu_percent.value_or(-1));
  }
  return samples;
}

TEST(StoreQueue, TheLastUpdateOfAServiceWins) {
  StoreQueue queue(kPlenty, kPlenty);
  for (int i = 0; i < 1000; ++i) {
    queue.UpdateService(Service("web", "starting"), absl::UnixEpoch());
  }
  queue.UpdateService(Service("web", "running"), absl::FromUnixSeconds(5));
  EXPECT_EQ(queue.rows(), 1);
  const StoreBatch batch = queue.Take(10);
  ASSERT_EQ(batch.services.size(), 1);
  EXPECT_EQ(batch.services.at("web").row.state, "running");
  EXPECT_EQ(batch.services.at("web").changed_at, absl::FromUnixSeconds(5));
  EXPECT_TRUE(queue.empty());
}

TEST(StoreQueue, AnUpdateBeforeARemovalIsStopped) {
  StoreQueue queue(kPlenty, kPlenty);
  queue.UpdateService(Service("old", "running"), absl::UnixEpoch());
  queue.UpdateService(Service("kept", "running"), absl::UnixEpoch());
  queue.RemoveServicesExcept({"kept"});
  queue.UpdateService(Service("new", "running"), absl::UnixEpoch());
  const StoreBatch batch = queue.Take(10);
  EXPECT_THAT(*batch.keep, ElementsAre("kept"));
  EXPECT_EQ(batch.services.at("old").row.state, "stopped");
  EXPECT_EQ(batch.services.at("old").row.pid, std::nullopt);
  EXPECT_EQ(batch.services.at("kept").row.state, "running");
  EXPECT_EQ(batch.services.at("new").row.state, "running");
}

TEST(StoreQueue, TwoRemovalsKeepWhatBothKeep) {
  StoreQueue queue(kPlenty, kPlenty);
  queue.RemoveServicesExcept({"a", "b"});
  queue.RemoveServicesExcept({"b", "c"});
  EXPECT_THAT(*queue.Take(10).keep, ElementsAre("b"));
}

TEST(StoreQueue, OverflowDropsTheOldestMetricsFirst) {
  StoreQueue queue(4, kPlenty);
  queue.AddMetrics(Metric(1));
  queue.AddEvent(Event("a"));
  queue.AddMetrics(Metric(2));
  queue.AddEvent(Event("b"));
  queue.AddEvent(Event("c"));
  EXPECT_EQ(queue.dropped(), 1);
  queue.AddEvent(Event("d"));
  EXPECT_EQ(queue.dropped(), 2);
  queue.AddEvent(Event("e"));   // no metrics left
  queue.AddMetrics(Metric(3));  // worth less than any event
  EXPECT_EQ(queue.dropped(), 4);
  const StoreBatch batch = queue.Take(10);
  EXPECT_THAT(Messages(batch), ElementsAre("b", "c", "d", "e"));
  EXPECT_THAT(Samples(batch), ElementsAre());
}

TEST(StoreQueue, RowsInFlightCountAndStay) {
  StoreQueue queue(3, kPlenty);
  queue.AddEvent(Event("a"));
  queue.AddEvent(Event("b"));
  const StoreBatch batch = queue.Take(10);
  queue.SetInFlight(batch.rows());
  queue.AddEvent(Event("c"));
  queue.AddEvent(Event("d"));
  EXPECT_EQ(queue.dropped(), 1);
  EXPECT_THAT(Messages(batch), ElementsAre("a", "b"));
  EXPECT_THAT(Messages(queue.Take(10)), ElementsAre("d"));
}

TEST(StoreQueue, ServicesAreNeverDropped) {
  StoreQueue queue(2, kPlenty);
  for (int i = 0; i < 5; ++i) {
    queue.UpdateService(Service(std::to_string(i), "running"), absl::UnixEpoch());
  }
  queue.AddEvent(Event("a"));
  EXPECT_EQ(queue.Take(10).services.size(), 5);
  EXPECT_EQ(queue.dropped(), 1);
}

TEST(StoreQueue, BytesAreBoundedToo) {
  StoreQueue queue(kPlenty, 100'000);
  for (int i = 0; i < 100; ++i) {
    queue.AddEvent(Event(std::string(10'000, 'x')));
  }
  EXPECT_LT(queue.rows(), 10);
  EXPECT_EQ(queue.dropped() + queue.rows(), 100);
  queue.Take(kPlenty);
  queue.AddEvent(Event(std::string(50'000, 'x')));
  EXPECT_EQ(queue.rows(), 1);  // taking gave the bytes back
}

TEST(StoreQueue, TakesTheOldestInPortions) {
  StoreQueue queue(kPlenty, kPlenty);
  for (int i = 0; i < 3; ++i) {
    queue.AddMetrics(Metric(i));
    queue.AddEvent(Event(std::to_string(i)));
  }
  const StoreBatch first = queue.Take(4);
  EXPECT_THAT(Messages(first), ElementsAre("0", "1", "2"));
  EXPECT_THAT(Samples(first), ElementsAre(0));
  EXPECT_EQ(first.first_sequence, 1);
  EXPECT_EQ(queue.OldestSequence(), 3);
  EXPECT_THAT(Samples(queue.Take(4)), ElementsAre(1, 2));
  EXPECT_EQ(queue.OldestSequence(), StoreQueue::kNothingWaits);
  EXPECT_EQ(queue.last_sequence(), 6);
}

TEST(StoreQueue, TheOldestSequenceCountsServices) {
  StoreQueue queue(kPlenty, kPlenty);
  queue.UpdateService(Service("a", "running"), absl::UnixEpoch());
  queue.AddEvent(Event("x"));
  queue.UpdateService(Service("a", "stopped"), absl::UnixEpoch());
  EXPECT_EQ(queue.OldestSequence(), 1);
}

TEST(StoreQueue, WaitingEventsArePublishedOnce) {
  StoreQueue queue(kPlenty, kPlenty);
  queue.AddEvent(Event("a"));
  EXPECT_TRUE(queue.HasUnpublishedEvents());
  EXPECT_EQ(queue.PublishWaitingEvents().size(), 1);
  EXPECT_FALSE(queue.HasUnpublishedEvents());
  queue.AddEvent(Event("b"));
  EXPECT_EQ(queue.PublishWaitingEvents().front().message, "b");
  queue.AddEvent(Event("c"));
  const StoreBatch batch = queue.Take(10);
  EXPECT_TRUE(batch.events[0].published);
  EXPECT_FALSE(batch.events[2].published);
  EXPECT_FALSE(queue.HasUnpublishedEvents());
}

}  // namespace
}  // namespace supervisor
