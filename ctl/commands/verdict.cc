#include "ctl/commands/verdict.h"

#include <algorithm>

#include "ctl/render/words.h"

namespace supervisor {

ExitCode StatusVerdict(const v1::StatusResponse& response, bool any_named) {
  const bool all_well = std::all_of(response.services().begin(), response.services().end(),
                                    [any_named](const v1::ServiceStatus& service) {
                                      return IsUpOrFinished(service.state()) || (!any_named && !service.enabled());
                                    });
  return all_well ? ExitCode::kDone : ExitCode::kNotRunning;
}

ExitCode HealthVerdict(const v1::HealthResponse& response) {
  const bool any_unhealthy =
      std::any_of(response.services().begin(), response.services().end(),
                  [](const v1::ServiceHealth& service) { return service.health() == v1::HEALTH_STATE_UNHEALTHY; });
  return any_unhealthy ? ExitCode::kNotRunning : ExitCode::kDone;
}

ExitCode ActionVerdict(const google::protobuf::RepeatedPtrField<v1::ActionResult>& results) {
  ExitCode verdict = ExitCode::kDone;
  for (const v1::ActionResult& result : results) {
    switch (result.outcome()) {
      case v1::ActionResult::OUTCOME_DONE:
      case v1::ActionResult::OUTCOME_UNCHANGED:
      case v1::ActionResult::OUTCOME_ACCEPTED:
        break;
      case v1::ActionResult::OUTCOME_TIMED_OUT:
        verdict = ExitCode::kTimedOut;
        break;
      case v1::ActionResult::OUTCOME_FAILED:
      case v1::ActionResult::OUTCOME_UNSPECIFIED:
      case v1::ActionResult_Outcome_ActionResult_Outcome_INT_MIN_SENTINEL_DO_NOT_USE_:
      case v1::ActionResult_Outcome_ActionResult_Outcome_INT_MAX_SENTINEL_DO_NOT_USE_:
        return ExitCode::kFailed;
    }
  }
  return verdict;
}

ExitCode ChannelTestsVerdict(const v1::TestNotificationsResponse& response) {
  const auto& channels = response.channels();
  const bool all_delivered =
      std::all_of(channels.begin(), channels.end(), [](const v1::ChannelTest& channel) { return channel.delivered(); });
  return all_delivered && !channels.empty() ? ExitCode::kDone : ExitCode::kFailed;
}

ExitCode ReloadVerdict(const v1::ReloadResponse& response) {
  return response.errors().empty() ? ExitCode::kDone : ExitCode::kUsage;
}

}  // namespace supervisor
