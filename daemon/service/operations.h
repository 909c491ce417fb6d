#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "daemon/loop/loop.h"
#include "daemon/service/machine.h"

namespace supervisor {

// What became of one instance that somebody asked something of.
struct ActionOutcome {
  enum class Kind { kDone, kUnchanged, kAccepted, kFailed, kTimedOut };
  std::string id;
  Kind kind = Kind::kDone;
  std::string message;
  bool implied = false;  // not named: a dependency or a dependent
  bool is_dependent = false;
  std::string left_running = {};  // of the run that ended, in words; empty: nothing that is known
  bool leaves_its_own = false;    // and some of that is certainly its own
};
using ActionsDone = std::function<void(std::vector<ActionOutcome>)>;

// Who waits for what: each operation collects the outcomes of its instances and answers when it has all, or when its
// time is up. Loop thread.
class Operations {
 public:
  explicit Operations(Loop& loop) : loop_(loop) {}

  enum class Wanted { kUp, kDown };
  struct Item {
    std::string id;
    bool implied = false;
    bool is_dependent = false;
    std::optional<ActionOutcome> outcome;  // known already: unchanged, accepted
  };
  // `timeout` zero: none. `done` may be called from within.
  void Add(Wanted wanted, std::vector<Item> items, absl::Duration timeout, ActionsDone done);

  // A start's outcome, which settles what waits for that instance to come up.
  void AttemptEnded(const std::string& id, bool success, const std::string& message);
  // Asked once a turn about those that wait for an instance to go down: nothing, or how it ended.
  using DownState = std::function<std::optional<ActionOutcome>(const std::string& id)>;
  void SettleDown(const DownState& state);
  // The instance has another id; whoever waits for it goes on waiting.
  void Renamed(const std::string& from, const std::string& to);
  // The instance is gone from the configuration.
  void Removed(const std::string& id);

 private:
  struct Operation {
    Wanted wanted = Wanted::kUp;
    std::vector<Item> items;
    ActionsDone done;
    std::unique_ptr<Loop::Timer> timer;
    bool answered = false;
  };
  void AnswerIfComplete(Operation& operation);
  void Answer(Operation& operation);
  void Sweep();

  Loop& loop_;
  std::list<Operation> operations_;
};

}  // namespace supervisor
