#include <fmt/format.h>

#include "ctl/render/text.h"
#include "ctl/render/utf8.h"
#include "ctl/render/words.h"

namespace supervisor {
namespace {

std::string_view DoneWord(Action action) {
  switch (action) {
    case Action::kStart:
      return "started";
    case Action::kRestart:
      return "restarted";
    case Action::kStop:
    case Action::kShutdown:
      return "stopped";
    case Action::kSignal:
      return "signalled";
  }
  return "done";
}

std::string_view OnItsWayWord(Action action) {
  switch (action) {
    case Action::kStart:
      return "starting";
    case Action::kRestart:
      return "restarting";
    case Action::kStop:
    case Action::kShutdown:
      return "stopping";
    case Action::kSignal:
      return "signalled";
  }
  return "accepted";
}

// Why something that nobody named was touched.
std::string_view ImpliedNote(Action action) {
  switch (action) {
    case Action::kStart:
      return " (a dependency)";
    case Action::kStop:
      return " (depends on what was stopped)";
    case Action::kRestart:
      return " (depends on what was restarted)";
    case Action::kSignal:
    case Action::kShutdown:
      return "";
  }
  return "";
}

std::string DoneText(Action action, const v1::ActionResult& result) {
  const v1::ServiceStatus& service = result.service();
  switch (action) {
    case Action::kStart:
    case Action::kRestart:
      if (service.state() == v1::SERVICE_STATE_EXITED) {
        const std::string how = LastExitText(service);
        return fmt::format("{} and finished{}", DoneWord(action), how.empty() ? "" : ", " + how);
      }
      break;
    case Action::kSignal:
      if (!result.message().empty()) {
        return EscapeForTerminal(result.message());
      }
      break;
    case Action::kStop:
    case Action::kShutdown:
      return result.message().empty() ? std::string(DoneWord(action))
                                      : fmt::format("{} ({})", DoneWord(action), EscapeForTerminal(result.message()));
  }
  return service.pid() != 0 ? fmt::format("{}, pid {}", DoneWord(action), service.pid())
                            : std::string(DoneWord(action));
}

std::string UnchangedText(Action action, const v1::ActionResult& result) {
  const v1::ServiceStatus& service = result.service();
  if (action == Action::kRestart && !result.implied() && !result.message().empty()) {
    return EscapeForTerminal(result.message());
  }
  if (!result.has_service() || service.state() == v1::SERVICE_STATE_UNSPECIFIED) {
    return result.message().empty() ? "already so" : EscapeForTerminal(result.message());
  }
  return service.pid() != 0 ? fmt::format("already {}, pid {}", StateWord(service.state()), service.pid())
                            : fmt::format("already {}", StateWord(service.state()));
}

std::string TimedOutText(Action action, const v1::ActionResult& result) {
  const std::string detail = result.message().empty() ? fmt::format("still {}, and goes on", OnItsWayWord(action))
                                                      : EscapeForTerminal(result.message());
  return fmt::format("timed out: {} (see: supervisorctl status {})", detail, EscapeForTerminal(result.id()));
}

std::string OutcomeText(Action action, const v1::ActionResult& result) {
  switch (result.outcome()) {
    case v1::ActionResult::OUTCOME_DONE:
      return DoneText(action, result);
    case v1::ActionResult::OUTCOME_UNCHANGED:
      return UnchangedText(action, result);
    case v1::ActionResult::OUTCOME_ACCEPTED:
      return fmt::format("{} (not waited for)", OnItsWayWord(action));
    case v1::ActionResult::OUTCOME_FAILED:
      return fmt::format("failed: {}",
                         result.message().empty() ? "the daemon gives no reason" : EscapeForTerminal(result.message()));
    case v1::ActionResult::OUTCOME_TIMED_OUT:
      return TimedOutText(action, result);
    case v1::ActionResult::OUTCOME_UNSPECIFIED:
    case v1::ActionResult_Outcome_ActionResult_Outcome_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::ActionResult_Outcome_ActionResult_Outcome_INT_MAX_SENTINEL_DO_NOT_USE_:
      break;
  }
  return fmt::format("an outcome that this client does not know ({})", static_cast<int>(result.outcome()));
}

}  // namespace

std::string ActionLine(Action action, const v1::ActionResult& result) {
  // A dependency of what is restarted is started; a dependent is restarted with it.
  const bool is_dependency = result.implied() && action == Action::kRestart && !result.is_dependent();
  const Action done = is_dependency ? Action::kStart : action;
  return fmt::format("{}: {}{}{}{}", EscapeForTerminal(result.id()), OutcomeText(done, result),
                     result.implied() ? ImpliedNote(done) : "", result.left_running().empty() ? "" : "; ",
                     EscapeForTerminal(result.left_running()));
}

}  // namespace supervisor
