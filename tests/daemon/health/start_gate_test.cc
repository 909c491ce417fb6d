#include "daemon/health/start_gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace supervisor {
namespace {

using testing::ElementsAre;

class StartGateTest : public testing::Test {
 protected:
  struct Entered {
    int who;
    uint64_t visit;
  };

  void Enter(int who) { Enter(who, here_); }
  void Enter(int who, const std::weak_ptr<const void>& wanted) {
    gate_->Enter(wanted, [this, who](uint64_t visit) {
      entered_.push_back({who, visit});
      if (entered_.size() == awaited_) {
        loop_.Stop();
      }
    });
  }
  // Runs the loop until so many have entered in all.
  void AwaitEntered(size_t count) {
    awaited_ = count;
    if (entered_.size() < count) {
      loop_.Run();
    }
  }
  std::vector<int> Order() const {
    std::vector<int> order;
    for (const Entered& entered : entered_) {
      order.push_back(entered.who);
    }
    return order;
  }

  void BePatient() { gate_ = std::make_unique<StartGate>(loop_, absl::Hours(1)); }

  Loop loop_;
  std::unique_ptr<StartGate> gate_ = std::make_unique<StartGate>(loop_);
  std::shared_ptr<int> here_ = std::make_shared<int>();
  std::vector<Entered> entered_;
  size_t awaited_ = 0;
};

TEST_F(StartGateTest, TwoAtATimeInTheOrderTheyCame) {
  BePatient();
  for (int who = 0; who < 10; ++who) {
    Enter(who);
  }
  EXPECT_THAT(Order(), ElementsAre(0, 1));
  for (size_t count = 3; count <= 10; ++count) {
    gate_->Leave(entered_[count - 3].visit);
    EXPECT_EQ(entered_.size(), count - 1) << "without a pause";
    AwaitEntered(count);
  }
  EXPECT_THAT(Order(), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
}

TEST_F(StartGateTest, WhoStaysTooLongLosesHisPlaceToTheNext) {
  for (int who = 0; who < 6; ++who) {
    Enter(who);
  }
  AwaitEntered(6);
  EXPECT_THAT(Order(), ElementsAre(0, 1, 2, 3, 4, 5));
  Enter(6);
  for (const int late : {0, 1, 2, 3}) {
    gate_->Leave(entered_[static_cast<size_t>(late)].visit);
  }
  AwaitEntered(7);
}

TEST_F(StartGateTest, WhoIsNotWantedAnyMoreIsPassedOver) {
  Enter(0);
  Enter(1);
  auto gone = std::make_shared<int>();
  Enter(2, gone);
  Enter(3);
  gone.reset();
  AwaitEntered(3);
  EXPECT_THAT(Order(), ElementsAre(0, 1, 3));
}

TEST_F(StartGateTest, LeavingTwiceOrWithoutAVisitIsNoHarm) {
  BePatient();
  Enter(0);
  Enter(1);
  Enter(2);
  Enter(3);
  gate_->Leave(0);
  gate_->Leave(entered_[0].visit);
  gate_->Leave(entered_[0].visit);
  AwaitEntered(3);
  gate_->Leave(entered_[0].visit);
  EXPECT_THAT(Order(), ElementsAre(0, 1, 2));
}

TEST_F(StartGateTest, WhoWaitsWhenTheGateGoesNeverEnters) {
  Enter(0);
  Enter(1);
  Enter(2);
  gate_.reset();
  loop_.Post([this] { loop_.Stop(); });
  loop_.Run();
  EXPECT_THAT(Order(), ElementsAre(0, 1));
}

}  // namespace
}  // namespace supervisor
