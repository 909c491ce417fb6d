#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/loop/helper_pool.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// What an owner on the loop asks of whoever may keep it to himself for as long as he likes: users and groups of a
// directory server, a file on a network file system, /proc of a process in trouble. One that hangs holds up the loop as
// little as the end of the daemon, and others only when as many hang as there may be threads.
//
// Loop thread.
class HelperCalls {
 public:
  HelperCalls(Loop& loop, size_t most_threads) : pool_(most_threads), mailbox_(std::make_shared<LoopMailbox>(&loop)) {}
  ~HelperCalls() { mailbox_->Close(); }
  HelperCalls(const HelperCalls&) = delete;
  HelperCalls& operator=(const HelperCalls&) = delete;

  // `call` runs on a thread of its own and so owns what it uses; `then` gets its answer on the loop, unless `wanted` or
  // this has gone by then. At once, with RESOURCE_EXHAUSTED, where no thread can be had.
  template <typename T>
  void Ask(const std::weak_ptr<const void>& wanted, std::function<absl::StatusOr<T>()> call,
           std::function<void(absl::StatusOr<T>)> then) {
    const bool runs = pool_.Run(wanted, [mailbox = mailbox_, wanted, call = std::move(call), then] {
      mailbox->Post([wanted, then, answer = call()]() mutable {
        if (!wanted.expired()) {
          then(std::move(answer));
        }
      });
    });
    if (!runs) {
      then(absl::ResourceExhaustedError("no thread can be made that asks for it"));
    }
  }

 private:
  HelperPool pool_;
  std::shared_ptr<LoopMailbox> mailbox_;
};

}  // namespace supervisor
