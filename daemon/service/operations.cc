#include "daemon/service/operations.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/time_format.h"

namespace supervisor {

void Operations::Add(Wanted wanted, std::vector<Item> items, absl::Duration timeout, ActionsDone done) {
  Operation& operation = operations_.emplace_back();
  operation.wanted = wanted;
  operation.items = std::move(items);
  operation.done = std::move(done);
  if (timeout > absl::ZeroDuration()) {
    operation.timer = loop_.NewTimer([this, &operation, timeout] {
      for (Item& item : operation.items) {
        if (!item.outcome) {
          item.outcome = ActionOutcome{
              .id = item.id,
              .kind = ActionOutcome::Kind::kTimedOut,
              .message = fmt::format("not yet {} after {}; it goes on",
                                     operation.wanted == Wanted::kUp ? "up" : "stopped", FormatSpan(timeout))};
        }
      }
      AnswerIfComplete(operation);
      Sweep();
    });
    operation.timer->ArmAfter(timeout);
  }
  AnswerIfComplete(operation);
  Sweep();
}

void Operations::AttemptEnded(const std::string& id, bool success, const std::string& message) {
  for (Operation& operation : operations_) {
    if (operation.wanted != Wanted::kUp) {
      continue;
    }
    for (Item& item : operation.items) {
      if (item.id == id && !item.outcome) {
        item.outcome = ActionOutcome{
            .id = id, .kind = success ? ActionOutcome::Kind::kDone : ActionOutcome::Kind::kFailed, .message = message};
      }
    }
    AnswerIfComplete(operation);
  }
  Sweep();
}

void Operations::SettleDown(const DownState& state) {
  for (Operation& operation : operations_) {
    if (operation.wanted != Wanted::kDown) {
      continue;
    }
    for (Item& item : operation.items) {
      if (!item.outcome) {
        item.outcome = state(item.id);
      }
    }
    AnswerIfComplete(operation);
  }
  Sweep();
}

void Operations::Renamed(const std::string& from, const std::string& to) {
  for (Operation& operation : operations_) {
    for (Item& item : operation.items) {
      if (item.id == from) {
        item.id = to;
      }
    }
  }
}

void Operations::Removed(const std::string& id) {
  for (Operation& operation : operations_) {
    for (Item& item : operation.items) {
      if (item.id == id && !item.outcome) {
        item.outcome = ActionOutcome{
            .id = id,
            .kind = operation.wanted == Wanted::kDown ? ActionOutcome::Kind::kDone : ActionOutcome::Kind::kFailed,
            .message = "it is no longer configured"};
      }
    }
    AnswerIfComplete(operation);
  }
  Sweep();
}

void Operations::AnswerIfComplete(Operation& operation) {
  if (std::ranges::all_of(operation.items, [](const Item& item) { return item.outcome.has_value(); })) {
    Answer(operation);
  }
}

void Operations::Answer(Operation& operation) {
  if (std::exchange(operation.answered, true)) {
    return;
  }
  std::vector<ActionOutcome> outcomes;
  for (Item& item : operation.items) {
    outcomes.push_back(*std::move(item.outcome));
    outcomes.back().implied = item.implied;
    outcomes.back().is_dependent = item.is_dependent;
  }
  // Posted, so that whoever is answered may ask for the next thing without being inside of this one.
  loop_.Post(
      [done = std::move(operation.done), outcomes = std::move(outcomes)]() mutable { done(std::move(outcomes)); });
  if (operation.timer != nullptr) {
    operation.timer->Disarm();  // later may be after it is due, and the operation is gone by then
    loop_.DestroyLater(std::move(operation.timer));
  }
}

void Operations::Sweep() {
  operations_.remove_if([](const Operation& operation) { return operation.answered; });
}

}  // namespace supervisor
