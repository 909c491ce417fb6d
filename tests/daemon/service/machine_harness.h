#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "daemon/service/machine.h"

namespace supervisor {

// Drives one machine with a clock of the test's own and keeps what it wanted done.
class MachineHarness {
 public:
  MachineConfig config;
  MachineState state;
  MonoTime now = absl::Seconds(1000);
  std::vector<ServiceAction> actions;  // of the last Send

  MachineHarness() {
    config.restart.delay = absl::Seconds(5);
    config.restart.jitter = 0;
  }

  MachineHarness& Send(const ServiceEvent& event) {
    StepResult result = Step(config, state, event, now);
    state = std::move(result.state);
    actions = std::move(result.actions);
    return *this;
  }
  // Lets the time of the deadline come.
  MachineHarness& Elapse() {
    now = state.deadline;
    return Send(DeadlineReached{});
  }
  MachineHarness& Start() { return Send(StartRequested{{.actor = "tester", .reason = {}}}); }
  MachineHarness& Stop(bool deferred = false) {
    return Send(StopRequested{{.actor = "tester", .reason = {}}, deferred});
  }
  MachineHarness& Restart() { return Send(RestartRequested{{.actor = "tester", .reason = {}}}); }
  MachineHarness& Exit(WaitStatus status, bool tree_empty = true, std::string why = "") {
    return Send(ProcessExited{status, tree_empty, std::move(why)});
  }
  MachineHarness& RunUntilReady() { return Start().Send(GateOpened{}).Send(ExecSucceeded{42, {}}); }

  template <typename Action>
  std::vector<Action> Of() const {
    std::vector<Action> found;
    for (const ServiceAction& action : actions) {
      if (const Action* one = std::get_if<Action>(&action)) {
        found.push_back(*one);
      }
    }
    return found;
  }
  template <typename Action>
  bool Did() const {
    return !Of<Action>().empty();
  }
  std::vector<std::string> Recorded() const {
    std::vector<std::string> types;
    for (const RecordEvent& event : Of<RecordEvent>()) {
      types.push_back(event.type);
    }
    return types;
  }
};

}  // namespace supervisor
