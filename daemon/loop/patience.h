#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// For who asks something of another thread that may hang, as the database's does with its disk. What is returned takes
// the answer, on any thread, and `done` gets it on the loop: once, or DeadlineExceeded with `too_late` when `patience`
// is over. Any thread; the loop has to run until then.
template <typename T>
std::function<void(absl::StatusOr<T>)> WithPatience(Loop& loop, absl::Duration patience, std::string too_late,
                                                    std::function<void(absl::StatusOr<T>)> done) {
  struct Waiting {
    std::function<void(absl::StatusOr<T>)> done;
    std::unique_ptr<Loop::Timer> timer;

    void Answer(Loop& loop, absl::StatusOr<T> result) {
      if (const auto answer = std::exchange(done, nullptr)) {
        loop.DestroyLater(std::move(timer));
        answer(std::move(result));
      }
    }
  };
  auto waiting = std::make_shared<Waiting>();
  waiting->done = std::move(done);
  loop.Post([&loop, waiting, patience, too_late = std::move(too_late)]() mutable {
    if (waiting->done != nullptr) {
      waiting->timer = loop.NewTimer([&loop, waiting, too_late = std::move(too_late)] {
        waiting->Answer(loop, absl::DeadlineExceededError(too_late));
      });
      waiting->timer->ArmAfter(patience);
    }
  });
  return [&loop, waiting](absl::StatusOr<T> result) {
    loop.Post([&loop, waiting, result = std::move(result)]() mutable { waiting->Answer(loop, std::move(result)); });
  };
}

}  // namespace supervisor
