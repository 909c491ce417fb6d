#include "ctl/commands/verdict.h"

#include <grpcpp/support/status.h>
#include <gtest/gtest.h>

#include "ctl/client.h"

namespace supervisor {
namespace {

v1::StatusResponse One(v1::ServiceState state, bool enabled) {
  v1::StatusResponse response;
  v1::ServiceStatus& service = *response.add_services();
  service.set_state(state);
  service.set_enabled(enabled);
  return response;
}

TEST(StatusVerdictTest, RunningAndExitedAreAsTheyShouldBe) {
  for (const bool named : {false, true}) {
    EXPECT_EQ(StatusVerdict(One(v1::SERVICE_STATE_RUNNING, true), named), ExitCode::kDone);
    EXPECT_EQ(StatusVerdict(One(v1::SERVICE_STATE_EXITED, true), named), ExitCode::kDone);
    for (const v1::ServiceState state :
         {v1::SERVICE_STATE_STOPPED, v1::SERVICE_STATE_STARTING, v1::SERVICE_STATE_STOPPING, v1::SERVICE_STATE_BACKOFF,
          v1::SERVICE_STATE_FAILED, v1::SERVICE_STATE_UNSPECIFIED}) {
      EXPECT_EQ(StatusVerdict(One(state, true), named), ExitCode::kNotRunning);
    }
  }
}

TEST(StatusVerdictTest, ADisabledOneCountsOnlyWhenNamed) {
  EXPECT_EQ(StatusVerdict(One(v1::SERVICE_STATE_STOPPED, false), false), ExitCode::kDone);
  EXPECT_EQ(StatusVerdict(One(v1::SERVICE_STATE_STOPPED, false), true), ExitCode::kNotRunning);
  EXPECT_EQ(StatusVerdict({}, false), ExitCode::kDone);
}

ExitCode VerdictOf(const std::vector<v1::ActionResult::Outcome>& outcomes) {
  v1::ActionResponse response;
  for (const v1::ActionResult::Outcome outcome : outcomes) {
    response.add_results()->set_outcome(outcome);
  }
  return ActionVerdict(response.results());
}

TEST(ActionVerdictTest, FailureCountsMoreThanLateness) {
  using Result = v1::ActionResult;
  EXPECT_EQ(VerdictOf({}), ExitCode::kDone);
  EXPECT_EQ(VerdictOf({Result::OUTCOME_DONE, Result::OUTCOME_UNCHANGED, Result::OUTCOME_ACCEPTED}), ExitCode::kDone);
  EXPECT_EQ(VerdictOf({Result::OUTCOME_DONE, Result::OUTCOME_TIMED_OUT}), ExitCode::kTimedOut);
  EXPECT_EQ(VerdictOf({Result::OUTCOME_FAILED, Result::OUTCOME_TIMED_OUT}), ExitCode::kFailed);
  EXPECT_EQ(VerdictOf({Result::OUTCOME_TIMED_OUT, Result::OUTCOME_FAILED}), ExitCode::kFailed);
  EXPECT_EQ(VerdictOf({Result::OUTCOME_UNSPECIFIED}), ExitCode::kFailed);
}

TEST(HealthVerdictTest, OneUnhealthyIsEnough) {
  v1::HealthResponse response;
  EXPECT_EQ(HealthVerdict(response), ExitCode::kDone);
  response.add_services()->set_health(v1::HEALTH_STATE_UNKNOWN);
  response.add_services()->set_health(v1::HEALTH_STATE_STARTING);
  EXPECT_EQ(HealthVerdict(response), ExitCode::kDone);
  response.add_services()->set_health(v1::HEALTH_STATE_UNHEALTHY);
  EXPECT_EQ(HealthVerdict(response), ExitCode::kNotRunning);
}

TEST(ReloadVerdictTest, ErrorsAreConfigurationErrors) {
  v1::ReloadResponse response;
  EXPECT_EQ(ReloadVerdict(response), ExitCode::kDone);
  response.add_errors("x.json:1:1: version: missing");
  EXPECT_EQ(ReloadVerdict(response), ExitCode::kUsage);
}

TEST(VerdictTest, ATestOfChannelsIsGoodWhenAllAreTold) {
  v1::TestNotificationsResponse response;
  EXPECT_EQ(ChannelTestsVerdict(response), ExitCode::kFailed);  // nobody would be told of anything
  response.add_channels()->set_delivered(true);
  EXPECT_EQ(ChannelTestsVerdict(response), ExitCode::kDone);
  response.add_channels()->set_delivered(false);
  EXPECT_EQ(ChannelTestsVerdict(response), ExitCode::kFailed);
}

TEST(ToFailureTest, EveryStatusHasItsExitCode) {
  const auto code_of = [](grpc::StatusCode code) { return ToFailure(grpc::Status(code, "text"), "start").exit_code; };
  EXPECT_EQ(code_of(grpc::StatusCode::INVALID_ARGUMENT), ExitCode::kUsage);
  EXPECT_EQ(code_of(grpc::StatusCode::NOT_FOUND), ExitCode::kNoSuchService);
  EXPECT_EQ(code_of(grpc::StatusCode::UNAVAILABLE), ExitCode::kUnreachable);
  EXPECT_EQ(code_of(grpc::StatusCode::PERMISSION_DENIED), ExitCode::kNotPermitted);
  EXPECT_EQ(code_of(grpc::StatusCode::UNAUTHENTICATED), ExitCode::kNotPermitted);
  EXPECT_EQ(code_of(grpc::StatusCode::DEADLINE_EXCEEDED), ExitCode::kTimedOut);
  for (const grpc::StatusCode code :
       {grpc::StatusCode::UNIMPLEMENTED, grpc::StatusCode::INTERNAL, grpc::StatusCode::FAILED_PRECONDITION,
        grpc::StatusCode::RESOURCE_EXHAUSTED, grpc::StatusCode::ABORTED, grpc::StatusCode::UNKNOWN}) {
    EXPECT_EQ(code_of(code), ExitCode::kFailed);
  }
  EXPECT_EQ(
      ToFailure(grpc::Status(grpc::StatusCode::NOT_FOUND, "no such service: wbe (did you mean web?)"), "start").message,
      "no such service: wbe (did you mean web?)");
}

}  // namespace
}  // namespace supervisor
