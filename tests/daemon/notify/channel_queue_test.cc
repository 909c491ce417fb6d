#include "daemon/notify/channel_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
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

  // Fails the attempt under way and returns those that are given up.
  std::vector<std::string> Refuse(DeliveryFailure failure) {
    std::vector<std::string> ids;
    last_ = queue_.EndFailed({.failure = failure}, now_);
    for (const Alert& alert : last_.dropped) {
      ids.push_back(alert.service_id);
    }
    return ids;
  }
  Turn Fail(DeliveryFailure failure = DeliveryFailure::kUnreachable) {
    Refuse(failure);
    return last_.turn;
  }
  bool IsDue() const { return queue_.Due() <= now_ + absl::Milliseconds(50); }

  ChannelQueue::Outcome last_;
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
  EXPECT_EQ(Fail(), Turn::kNone);
  EXPECT_EQ(queue_.Due(), now_ + absl::Seconds(1));
  EXPECT_THAT(Take(), ElementsAre("a", "b"));
  EXPECT_EQ(Fail(), Turn::kNone);
  EXPECT_EQ(queue_.Due(), now_ + absl::Seconds(2));
  Take();
  EXPECT_EQ(Fail(), Turn::kDied);
  for (int i = 0; i < 20; ++i) {
    Take();
    EXPECT_EQ(Fail(), Turn::kNone);  // said once
  }
  EXPECT_EQ(queue_.Due(), now_ + absl::Minutes(5));
  EXPECT_THAT(Take(), ElementsAre("a", "b"));
  EXPECT_EQ(queue_.Delivered(now_), Turn::kRecovered);
  Add("c");
  Take();
  EXPECT_EQ(Fail(), Turn::kNone);
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
  Fail();
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
    Fail();
  }
  Take();
  Add("b");
  EXPECT_EQ(queue_.Due(), kNoDeadline);  // the attempt of the old one
  queue_.BeginAnew();
  EXPECT_LE(queue_.Due(), now_ + absl::Milliseconds(50));
  EXPECT_THAT(Take(), ElementsAre("a", "b"));
  EXPECT_EQ(Fail(), Turn::kNone);
  EXPECT_EQ(queue_.Due(), now_ + absl::Seconds(1));
  Take();
  EXPECT_EQ(Fail(), Turn::kNone);
  Take();
  EXPECT_EQ(Fail(), Turn::kDied);  // which is said again: it may have another label
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

TEST_F(ChannelQueueTest, OneThatIsRefusedForGoodIsFoundAndDropped) {
  for (const char* id : {"a", "poison", "c", "d"}) {
    Add(id);
  }
  EXPECT_THAT(Take(), ElementsAre("a", "poison", "c", "d"));
  EXPECT_THAT(Refuse(DeliveryFailure::kRefused), IsEmpty());
  EXPECT_TRUE(IsDue());
  EXPECT_THAT(Take(), ElementsAre("a", "poison"));
  EXPECT_THAT(Refuse(DeliveryFailure::kRefused), IsEmpty());
  EXPECT_THAT(Take(), ElementsAre("a"));
  queue_.Delivered(now_);
  EXPECT_TRUE(IsDue());  // what was one message is sent without its interval
  EXPECT_THAT(Take(), ElementsAre("poison", "c"));
  EXPECT_THAT(Refuse(DeliveryFailure::kRefused), IsEmpty());
  EXPECT_THAT(Take(), ElementsAre("poison"));
  EXPECT_THAT(Refuse(DeliveryFailure::kRefused), ElementsAre("poison"));
  EXPECT_TRUE(IsDue());
  EXPECT_THAT(Take(), ElementsAre("c"));
  queue_.Delivered(now_);
  EXPECT_THAT(Take(), ElementsAre("d"));
  queue_.Delivered(now_);
  EXPECT_TRUE(queue_.idle());
  Add("e");
  Add("f");
  EXPECT_EQ(queue_.Due(), now_ + absl::Seconds(60));
  EXPECT_THAT(Take(), ElementsAre("e", "f"));
}

TEST_F(ChannelQueueTest, AReceiverThatRefusesEachForGoodIsDead) {
  for (int i = 0; i < 3; ++i) {
    Add("x");
    Take();
    EXPECT_THAT(Refuse(DeliveryFailure::kRefused), ElementsAre("x"));
    EXPECT_EQ(last_.turn, i == 2 ? Turn::kDied : Turn::kNone);
  }
  Add("y");
  Take();
  EXPECT_EQ(queue_.Delivered(now_), Turn::kRecovered);
}

TEST_F(ChannelQueueTest, WhatMayBeTheChannelsFaultIsDroppedOnlyWhenAnotherGetsThrough) {
  Add("poison");
  Add("b");
  Take();
  EXPECT_THAT(Refuse(DeliveryFailure::kFault), IsEmpty());
  EXPECT_TRUE(IsDue());
  EXPECT_THAT(Take(), ElementsAre("poison"));
  EXPECT_THAT(Refuse(DeliveryFailure::kFault), IsEmpty());
  EXPECT_TRUE(IsDue());
  EXPECT_THAT(Take(), ElementsAre("b"));
  queue_.Delivered(now_);
  EXPECT_TRUE(IsDue());
  EXPECT_THAT(Take(), ElementsAre("poison"));
  EXPECT_THAT(Refuse(DeliveryFailure::kFault), ElementsAre("poison"));
  EXPECT_EQ(last_.turn, Turn::kNone);
  EXPECT_TRUE(queue_.idle());
}

TEST_F(ChannelQueueTest, AChannelThatRefusesEverythingKeepsEverything) {
  for (const char* id : {"a", "b", "c"}) {
    Add(id);
  }
  Take();
  Refuse(DeliveryFailure::kFault);
  int tries = 0;
  Turn turn = Turn::kNone;
  for (int round = 0; round < 6; ++round) {
    int in_this_round = 0;
    do {
      EXPECT_EQ(Take().size(), 1u);
      EXPECT_THAT(Refuse(DeliveryFailure::kFault), IsEmpty());
      turn = last_.turn == Turn::kDied ? Turn::kDied : turn;
      ++in_this_round;
    } while (IsDue());
    EXPECT_LE(in_this_round, 2);
    tries += in_this_round;
    now_ = queue_.Due();
  }
  EXPECT_LE(tries, 12);
  EXPECT_EQ(turn, Turn::kDied);
  EXPECT_EQ(queue_.size(), 3u);
  // It is mended over there: all get through, in ever larger messages.
  EXPECT_EQ(Take().size(), 1u);
  EXPECT_EQ(queue_.Delivered(now_), Turn::kRecovered);
  EXPECT_TRUE(IsDue());
  EXPECT_EQ(Take().size(), 2u);
  queue_.Delivered(now_);
  EXPECT_TRUE(queue_.idle());
}

TEST_F(ChannelQueueTest, ANewOneNeedNotWaitForOneThatIsRefused) {
  Add("poison");
  for (int i = 0; i < 10; ++i) {
    Take();
    Fail(DeliveryFailure::kFault);
    now_ = queue_.Due();
  }
  now_ += absl::Milliseconds(1);
  Take();
  Fail(DeliveryFailure::kFault);
  EXPECT_EQ(queue_.Due(), now_ + absl::Minutes(5));
  Add("b");
  EXPECT_TRUE(IsDue());
  EXPECT_THAT(Take(), ElementsAre("b"));
  queue_.Delivered(now_);
  EXPECT_THAT(Take(), ElementsAre("poison"));
  EXPECT_THAT(Refuse(DeliveryFailure::kFault), ElementsAre("poison"));
}

TEST_F(ChannelQueueTest, AServerErrorOfOneAloneLetsTheOthersGoFirst) {
  Add("poison");
  for (int i = 0; i < 3; ++i) {
    Take();
    EXPECT_THAT(Refuse(DeliveryFailure::kServerError), IsEmpty());
    EXPECT_FALSE(IsDue());
  }
  for (int strike = 1; strike <= 3; ++strike) {
    Add("b");
    now_ = std::max(now_, queue_.Due());
    EXPECT_THAT(Take(), ElementsAre("b"));
    queue_.Delivered(now_);
    EXPECT_THAT(Take(), ElementsAre("poison"));
    const std::vector<std::string> dropped = Refuse(DeliveryFailure::kServerError);
    EXPECT_EQ(dropped.size(), strike == 3 ? 1u : 0u);
  }
  EXPECT_TRUE(queue_.idle());
}

TEST_F(ChannelQueueTest, AServerThatIsDownForAWhileLosesNothing) {
  Add("a");
  Add("b");
  for (int i = 0; i < 10; ++i) {
    Take();
    EXPECT_THAT(Refuse(DeliveryFailure::kServerError), IsEmpty());
    now_ = queue_.Due();
  }
  size_t told = 0;
  while (!queue_.idle()) {
    told += Take().size();
    queue_.Delivered(now_);
  }
  EXPECT_EQ(told, 2u);
}

TEST_F(ChannelQueueTest, WaitsAsTheReceiverAsksWithinBounds) {
  Add("a");
  const auto waits = [this](absl::Duration asked) {
    Take();
    queue_.EndFailed({.failure = DeliveryFailure::kUnreachable, .retry_after = asked}, now_);
    const absl::Duration wait = queue_.Due() - now_;
    now_ = queue_.Due();
    return wait;
  };
  EXPECT_EQ(waits(absl::Seconds(7)), absl::Seconds(7));
  EXPECT_EQ(waits(absl::ZeroDuration()), absl::Seconds(2));  // never sooner than its own back-off
  EXPECT_EQ(waits(absl::Hours(24)), absl::Minutes(5));
  EXPECT_EQ(waits(absl::InfiniteDuration()), absl::Minutes(5));
  Take();
  queue_.EndFailed({.failure = DeliveryFailure::kUnreachable, .retry_after = absl::Seconds(100)}, now_);
  queue_.Hurry();
  EXPECT_LE(queue_.Due(), now_);
}

TEST_F(ChannelQueueTest, WhatWasRefusedGoesFirstForWantOfRoom) {
  Add("poison");
  Take();
  Fail(DeliveryFailure::kFault);
  for (const char* id : {"a", "b", "c", "d"}) {
    Add(id);
  }
  EXPECT_EQ(queue_.dropped(), 1u);
  EXPECT_THAT(Take(), ElementsAre("a"));
  queue_.Delivered(now_);
  EXPECT_THAT(Take(), ElementsAre("b", "c"));
  queue_.Delivered(now_);
  EXPECT_THAT(Take(), ElementsAre("d"));
}

TEST_F(ChannelQueueTest, ConfiguredAnewWhatWasRefusedIsTriedAgain) {
  Add("a");
  Add("b");
  Take();
  Fail(DeliveryFailure::kFault);
  Take();
  Fail(DeliveryFailure::kFault);
  Take();
  Fail(DeliveryFailure::kFault);
  EXPECT_FALSE(IsDue());
  queue_.BeginAnew();
  EXPECT_TRUE(IsDue());
  EXPECT_EQ(Take().size(), 2u);
}

}  // namespace
}  // namespace supervisor
