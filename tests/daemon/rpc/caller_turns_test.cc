#include "daemon/rpc/caller_turns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace supervisor {
namespace {

using ::testing::ElementsAre;

TEST(CallerTurns, UsersTakeTurnsAndOthersWorkGoesBetween) {
  Loop loop;
  CallerTurns turns(loop);
  std::vector<std::string> done;
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(turns.Post(1000, [&done, i] { done.push_back("a" + std::to_string(i)); }));
  }
  EXPECT_TRUE(turns.Post(2000, [&done] { done.emplace_back("b0"); }));
  loop.Post([&] {
    done.emplace_back("administrator");
    turns.Post(3000, [&] {
      done.emplace_back("c0");
      loop.Post([&] { loop.Stop(); });
    });
  });
  loop.Run();
  EXPECT_THAT(done, ElementsAre("a0", "administrator", "b0", "c0", "a1"));
}

TEST(CallerTurns, SoManyOfOneUserWaitAndNoMore) {
  Loop loop;
  CallerTurns turns(loop);
  size_t ran = 0;
  for (size_t i = 0; i < CallerTurns::kMostWaiting; ++i) {
    EXPECT_TRUE(turns.Post(1000, [&ran] { ++ran; }));
  }
  EXPECT_FALSE(turns.Post(1000, [&ran] { ran += 1000; }));
  EXPECT_TRUE(turns.Post(1001, [] {})) << "another user's queue is his own";
  loop.Post([&] {
    // Behind all of them, a turn each.
    auto again = std::make_shared<std::function<void()>>();
    *again = [&, again] {
      if (ran == CallerTurns::kMostWaiting) {
        loop.Stop();
        *again = nullptr;
      } else {
        loop.Post([again] { (*again)(); });
      }
    };
    (*again)();
  });
  loop.Run();
  EXPECT_EQ(ran, CallerTurns::kMostWaiting);
  EXPECT_TRUE(turns.Post(1000, [] {})) << "there is room again";
}

TEST(CallerTurns, WhatHasNotRunIsDroppedWithIt) {
  Loop loop;
  auto held = std::make_shared<int>(0);
  {
    CallerTurns turns(loop);
    turns.Post(1000, [held] { FAIL(); });
    EXPECT_EQ(held.use_count(), 2);
  }
  EXPECT_EQ(held.use_count(), 1);
  loop.Post([&loop] { loop.Stop(); });
  loop.Run();
}

}  // namespace
}  // namespace supervisor
