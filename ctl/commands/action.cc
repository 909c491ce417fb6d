#include "ctl/commands/action.h"

#include <fmt/format.h>

#include <string_view>

#include "ctl/commands/commands.h"
#include "ctl/commands/verdict.h"
#include "ctl/render/json.h"
#include "ctl/render/text.h"

namespace supervisor {
namespace {

// The daemon keeps the time itself and answers with who is late; this only bounds a daemon that does not.
constexpr absl::Duration kAnswerGrace = absl::Seconds(5);

struct ActionCall {
  Action action;
  std::string_view name;
  Client::Method<v1::ActionRequest, v1::ActionResponse> method;
};

ActionCall CallFor(Command command) {
  if (command == Command::kStart) {
    return {.action = Action::kStart, .name = "start", .method = &Client::Stub::Start};
  }
  if (command == Command::kStop) {
    return {.action = Action::kStop, .name = "stop", .method = &Client::Stub::Stop};
  }
  return {.action = Action::kRestart, .name = "restart", .method = &Client::Stub::Restart};
}

absl::Duration AnswerTimeout(const Invocation& invocation) {
  if (invocation.no_wait) {
    return Client::kReadTimeout;
  }
  const double seconds = invocation.timeout_seconds.value_or(0);
  return seconds > 0 ? absl::Seconds(seconds) + kAnswerGrace : absl::InfiniteDuration();
}

bool IsBad(v1::ActionResult::Outcome outcome) {
  return outcome != v1::ActionResult::OUTCOME_DONE && outcome != v1::ActionResult::OUTCOME_UNCHANGED &&
         outcome != v1::ActionResult::OUTCOME_ACCEPTED;
}

}  // namespace

ExitCode ShowResults(Action action, const google::protobuf::RepeatedPtrField<v1::ActionResult>& results,
                     Output& output) {
  if (output.json()) {
    output.PrintJson(ActionJson(results));
  }
  for (const v1::ActionResult& result : results) {
    if (IsBad(result.outcome())) {
      output.Line(ActionLine(action, result));
    } else if (!output.json()) {
      output.Print(ActionLine(action, result) + "\n");
    }
  }
  return ActionVerdict(results);
}

ExitCode RunAction(const Invocation& invocation, Client& client, Output& output) {
  const ActionCall call = CallFor(invocation.command);
  v1::ActionRequest request;
  request.mutable_targets()->Assign(invocation.targets.begin(), invocation.targets.end());
  request.set_no_wait(invocation.no_wait);
  request.set_timeout_seconds(invocation.timeout_seconds.value_or(0));
  request.set_reason(invocation.reason);
  request.set_with_dependents(invocation.with_dependents);
  v1::ActionResponse response;
  if (const auto failure = client.Act(call.method, request, &response, call.name, AnswerTimeout(invocation))) {
    return output.Fail(*failure);
  }
  return ShowResults(call.action, response.results(), output);
}

ExitCode RunSignal(const Invocation& invocation, Client& client, Output& output) {
  v1::SignalRequest request;
  request.mutable_targets()->Assign(invocation.targets.begin(), invocation.targets.end());
  request.set_signal(invocation.signal);
  request.set_reason(invocation.reason);
  v1::ActionResponse response;
  if (const auto failure = client.Act(&Client::Stub::Signal, request, &response, "signal", Client::kReadTimeout)) {
    return output.Fail(*failure);
  }
  return ShowResults(Action::kSignal, response.results(), output);
}

}  // namespace supervisor
