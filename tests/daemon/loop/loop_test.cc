#include "daemon/loop/loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "daemon/loop/patience.h"
#include "daemon/loop/worker.h"

namespace supervisor {
namespace {

TEST(Loop, PostedWorkRunsInOrder) {
  Loop loop;
  std::vector<int> seen;
  loop.Post([&] { seen.push_back(1); });
  loop.Post([&] {
    seen.push_back(2);
    loop.Post([&] {
      seen.push_back(3);
      loop.Stop();
    });
  });
  loop.Run();
  EXPECT_EQ(seen, (std::vector<int>{1, 2, 3}));
}

TEST(Loop, OtherThreadsPost) {
  Loop loop;
  constexpr int kThreads = 4;
  constexpr int kPosts = 1000;
  int count = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kPosts; ++i) {
        loop.Post([&] {
          if (++count == kThreads * kPosts) {
            loop.Stop();
          }
        });
      }
    });
  }
  loop.Run();
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(count, kThreads * kPosts);
}

TEST(Loop, ATimerIsNeverEarly) {
  Loop loop;
  const MonoTime begin = MonotonicNow();
  MonoTime fired;
  const std::unique_ptr<Loop::Timer> timer = loop.NewTimer([&] {
    fired = MonotonicNow();
    loop.Stop();
  });
  timer->ArmAt(begin + absl::Microseconds(20'300));
  loop.Run();
  EXPECT_GE(fired - begin, absl::Microseconds(20'300));
}

TEST(Loop, AfterItWasHeldUpWhatHasComeGoesBeforeWhatIsOverdue) {
  Loop loop;
  std::array<int, 2> pipe_ends{};
  ASSERT_EQ(pipe(pipe_ends.data()), 0);
  std::vector<std::string> seen;
  const std::unique_ptr<Loop::Timer> timer = loop.NewTimer([&] {
    seen.emplace_back("timer");
    loop.Stop();
  });
  const std::unique_ptr<Loop::Watch> watch = loop.WatchFd(pipe_ends[0], Loop::Interest::kRead, [&](Loop::Ready) {
    char byte = 0;
    EXPECT_EQ(read(pipe_ends[0], &byte, 1), 1);
    seen.emplace_back("descriptor");
  });
  loop.Post([&] {
    const MonoTime due = MonotonicNow() + absl::Milliseconds(5);
    timer->ArmAt(due);
    while (MonotonicNow() < due + absl::Milliseconds(100)) {
    }
    EXPECT_EQ(write(pipe_ends[1], "x", 1), 1);
    loop.Post([&] { seen.emplace_back("post"); });
  });
  loop.Run();
  EXPECT_THAT(seen, testing::UnorderedElementsAre("descriptor", "post", "timer"));
  EXPECT_EQ(seen.back(), "timer");
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

TEST(WithPatience, AnAnswerInTimeComesOnTheLoopAndOnce) {
  Loop loop;
  Worker worker;
  std::vector<int> answers;
  const WithPatience<int> answer(loop, absl::Hours(1), "too late", [&](const absl::StatusOr<int>& result) {
    answers.push_back(result.value_or(-1));
    loop.Post([&] { loop.Stop(); });
  });
  worker.Post([answer] {
    answer(7);
    answer(8);
  });
  loop.Run();
  EXPECT_THAT(answers, testing::ElementsAre(7));
}

TEST(WithPatience, WithoutOneItIsTooLate) {
  Loop loop;
  absl::Status seen;
  const WithPatience<int> answer(loop, absl::Milliseconds(1), "too late", [&](const absl::StatusOr<int>& result) {
    seen = result.status();
    loop.Post([&] { loop.Stop(); });
  });
  loop.Run();
  EXPECT_EQ(seen, absl::DeadlineExceededError("too late"));
  answer(7);  // nobody waits for it any more
}

TEST(Loop, ACallbackMayDestroyItsOwnWatchAndTimer) {
  Loop loop;
  std::array<int, 2> pipe_ends{};
  ASSERT_EQ(pipe(pipe_ends.data()), 0);
  std::unique_ptr<Loop::Timer> timer;
  std::unique_ptr<Loop::Watch> watch = loop.WatchFd(pipe_ends[0], Loop::Interest::kRead, [&](Loop::Ready ready) {
    EXPECT_TRUE(ready.readable);
    watch.reset();
    timer = loop.NewTimer([&] {
      timer.reset();
      loop.Stop();
    });
    timer->ArmAfter(absl::ZeroDuration());
  });
  ASSERT_EQ(write(pipe_ends[1], "x", 1), 1);
  loop.Run();
  EXPECT_EQ(watch, nullptr);
  EXPECT_EQ(timer, nullptr);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

TEST(Loop, TheTurnsEndComesAfterWhatWasPosted) {
  Loop loop;
  bool worked = false;
  bool settled = false;
  loop.SetTurnEnd([&] {
    if (worked) {
      settled = true;
      loop.Stop();
    }
  });
  loop.Post([&] { worked = true; });
  loop.Run();
  EXPECT_TRUE(settled);
}

TEST(Worker, BeginsWhenTold) {
  std::vector<int> done;
  Worker worker(Worker::Waking::kWhenTold);
  std::promise<size_t> first_look;
  worker.Post([&] { done.push_back(1); });
  worker.Post([&] {
    done.push_back(2);
    first_look.set_value(done.size());
  });
  worker.Wake();
  EXPECT_EQ(first_look.get_future().get(), 2u);
  worker.Post([&] { done.push_back(3); });
  worker.Finish();
  EXPECT_EQ(done, (std::vector<int>{1, 2, 3})) << "what nobody has told it of is done at its end";
}

TEST(Worker, DoesAllInOrderAndThenEnds) {
  std::vector<int> seen;
  {
    Worker worker;
    for (int i = 0; i < 100; ++i) {
      worker.Post([&seen, i] { seen.push_back(i); });
    }
  }
  ASSERT_EQ(seen.size(), 100u);
  EXPECT_EQ(seen.front(), 0);
  EXPECT_EQ(seen.back(), 99);
}

}  // namespace
}  // namespace supervisor
