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

// For who asks something of another thread that may hang, as the database's does with its disk. Takes the answer, on
// any thread; `done` gets it on the loop: once, or DeadlineExceeded with `too_late` when `patience` is over. Made on
// any thread, copied at will; the loop has to run until then.
template <typename T>
class WithPatience {
 public:
  using Done = std::function<void(absl::StatusOr<T>)>;

  WithPatience(Loop& loop, absl::Duration patience, std::string too_late, Done done)
      : loop_(&loop), waiting_(std::make_shared<Waiting>()) {
    waiting_->done = std::move(done);
    loop.Post([&loop, waiting = waiting_, patience, too_late = std::move(too_late)]() mutable {
      if (waiting->done != nullptr) {
        waiting->timer = loop.NewTimer([&loop, weak = std::weak_ptr<Waiting>(waiting), too_late = std::move(too_late)] {
          if (const std::shared_ptr<Waiting> late = weak.lock()) {
            late->Answer(loop, absl::DeadlineExceededError(too_late));
          }
        });
        waiting->timer->ArmAfter(patience);
      }
    });
  }

  void operator()(absl::StatusOr<T> result) const {
    loop_->Post([loop = loop_, waiting = waiting_, result = std::move(result)]() mutable {
      waiting->Answer(*loop, std::move(result));
    });
  }

 private:
  struct Waiting {
    Done done;
    std::unique_ptr<Loop::Timer> timer;

    void Answer(Loop& loop, absl::StatusOr<T> result) {
      if (const auto answer = std::exchange(done, nullptr)) {
        loop.DestroyLater(std::move(timer));
        answer(std::move(result));
      }
    }
  };

  Loop* loop_;
  std::shared_ptr<Waiting> waiting_;
};

}  // namespace supervisor
