#include "daemon/notify/channel_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using Turn = ChannelQueue::Turn;

class ChannelQueueTest : public ::testing::Test {
 protected:
  static ChannelTuning Tuning() {
    ChannelTuning tuning;
    tuning.most_waiting = 4;
    return tuning;
  }
  void Add(const std::string& id) {
    Alert alert;
    alert.service_id = id;
    queue_.Add(std::move(alert), now_);
  }
  std::vector<std::string> Take() {
    std::vector<std::string> ids;
    for (const Alert& alert : queue_.Take()) {
      ids.push_back(alert.service_id);
    }
    return ids;
  }

  ChannelQueue queue_{Tuning(), absl::Seconds(60)};
  MonoTime now_ = absl::Hours(1);
};

TEST_F(ChannelQueueTest, TheFirstIsToldAtOnceWithWhatComesTogether) {
  EXPECT_EQ(queue_.Due(), kNoDeadline);
  Add("a");
  EXPECT_EQ(queue_.Due(), now_ + absl::Milliseconds(50));
  now_ += absl::Milliseconds(10);
  Add("b");
  EXPECT_EQ(queue_.Due(), now_ + absl::Milliseconds(40));
  EXPECT_THAT(Take(), ElementsAre("a", "b"));
  EXPECT_EQ(queue_.Due(), kNoDeadline);  // one attempt at a time
  Add("c");
  EXPECT_EQ(queue_.Due(), kNoDeadline);
  EXPECT_EQ(queue_.Delivered(now_), Turn::kNone);
  EXPECT_EQ(queue_.Due(), now_ + absl::Seconds(60));
  EXPECT_THAT(Take(), ElementsAre("c"));
  queue_.Delivered(now_);
  EXPECT_TRUE(queue_.idle());
}

TEST_F(ChannelQueueTest, AFailureIsTriedAgainWithBackOffAndInOrder) {
  Add("a");
  Take();
  Add("b");
  EXPECT_EQ(queue_.Failed(now_), Turn::kNone);
  EXPECT_EQ(queue_.Due(), now_ + absl::Seconds(1));
  EXPECT_THAT(Take(), ElementsAre("a", "b"));
  EXPECT_EQ(queue_.Failed(now_), Turn::kNone);
  EXPECT_EQ(queue_.Due(), now_ + absl::Seconds(2));
  Take();
  EXPECT_EQ(queue_.Failed(now_), Turn::kDied);
  for (int i = 0; i < 20; ++i) {
    Take();
    EXPECT_EQ(queue_.Failed(now_), Turn::kNone);  // said once
  }
  EXPECT_EQ(queue_.Due(), now_ + absl::Minutes(5));
  EXPECT_THAT(Take(), ElementsAre("a", "b"));
  EXPECT_EQ(queue_.Delivered(now_), Turn::kRecovered);
  Add("c");
  Take();
  EXPECT_EQ(queue_.Failed(now_), Turn::kNone);
  EXPECT_EQ(queue_.Due(), now_ + absl::Seconds(1));
}

TEST_F(ChannelQueueTest, ItIsBoundedAndCountsWhatGoes) {
  for (const char* id : {"a", "b"}) {
    Add(id);
  }
  Take();
  for (const char* id : {"c", "d", "e", "f"}) {
    Add(id);
  }
  EXPECT_EQ(queue_.size(), 4u);
  queue_.Failed(now_);
  EXPECT_EQ(queue_.left_out(), 2u);
  EXPECT_THAT(Take(), ElementsAre("a", "b", "e", "f"));
  queue_.Delivered(now_);
  EXPECT_EQ(queue_.left_out(), 0u);
  EXPECT_EQ(queue_.dropped(), 2u);
}

TEST_F(ChannelQueueTest, ConfiguredAnewItIsTriedSoonAndAsIfNothingHadFailed) {
  Add("a");
  for (int i = 0; i < 20; ++i) {
    Take();
    queue_.Failed(now_);
  }
  Take();
  Add("b");
  EXPECT_EQ(queue_.Due(), kNoDeadline);  // the attempt of the old one
  queue_.BeginAnew();
  EXPECT_LE(queue_.Due(), now_ + absl::Milliseconds(50));
  EXPECT_THAT(Take(), ElementsAre("a", "b"));
  EXPECT_EQ(queue_.Failed(now_), Turn::kNone);
  EXPECT_EQ(queue_.Due(), now_ + absl::Seconds(1));
  Take();
  EXPECT_EQ(queue_.Failed(now_), Turn::kNone);
  Take();
  EXPECT_EQ(queue_.Failed(now_), Turn::kDied);  // which is said again: it may have another label
}

TEST_F(ChannelQueueTest, ConfiguredAnewItKeepsTheInterval) {
  Add("a");
  Take();
  queue_.Delivered(now_);
  Add("b");
  queue_.BeginAnew();
  EXPECT_EQ(queue_.Due(), now_ + absl::Seconds(60));
}

TEST_F(ChannelQueueTest, TheEndHurries) {
  Add("a");
  Take();
  queue_.Delivered(now_);
  Add("b");
  EXPECT_GT(queue_.Due(), now_);
  queue_.Hurry();
  EXPECT_LE(queue_.Due(), now_);
}

}  // namespace
}  // namespace supervisor
