// Commands that act: what is sent, what is printed where, and how the program ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "tests/ctl/ctl_process.h"
#include "tests/ctl/fake_supervisor.h"

namespace supervisor {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

class ActionsTest : public testing::Test {
 protected:
  CtlResult Run(std::vector<std::string> arguments) {
    const FakeSupervisor fake(socket_, &answers_);
    arguments.insert(arguments.end(), {"--socket", socket_});
    return RunCtl(arguments);
  }
  static void Add(v1::ActionResponse* response, const std::string& id, v1::ActionResult::Outcome outcome,
                  const std::string& message = "") {
    v1::ActionResult& result = *response->add_results();
    result.set_id(id);
    result.set_outcome(outcome);
    result.set_message(message);
    result.mutable_service()->set_state(v1::SERVICE_STATE_RUNNING);
    result.mutable_service()->set_pid(4711);
  }

  TemporaryDirectory directory_;
  std::string socket_ = directory_.path() + "/s.sock";
  FakeAnswers answers_;
};

TEST_F(ActionsTest, SendsWhatWasAsked) {
  v1::ActionRequest seen;
  answers_.restart = [&seen](const v1::ActionRequest& request, v1::ActionResponse* response) {
    seen = request;
    Add(response, "web", v1::ActionResult::OUTCOME_DONE);
    return grpc::Status::OK;
  };
  const CtlResult result =
      Run({"restart", "web", "@backend", "--timeout", "2.5", "--reason", "new build", "--no-wait"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "web: restarted, pid 4711\n");
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(seen.targets_size(), 2);
  EXPECT_EQ(seen.timeout_seconds(), 2.5);
  EXPECT_EQ(seen.reason(), "new build");
  EXPECT_TRUE(seen.no_wait());
}

TEST_F(ActionsTest, FailuresGoToStderrAndExit1) {
  answers_.start = [](const v1::ActionRequest&, v1::ActionResponse* response) {
    Add(response, "db", v1::ActionResult::OUTCOME_UNCHANGED);
    Add(response, "web", v1::ActionResult::OUTCOME_FAILED, "cannot start web: exec /nope: No such file or directory");
    return grpc::Status::OK;
  };
  CtlResult result = Run({"start", "all"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "db: already running, pid 4711\n");
  EXPECT_EQ(result.err, "web: failed: cannot start web: exec /nope: No such file or directory\n");
  result = Run({"start", "all", "--json"});
  EXPECT_EQ(result.exit_code, 1);
  const Json results = Json::parse(result.out)["results"];
  EXPECT_EQ(results[0]["outcome"], "unchanged");
  EXPECT_EQ(results[1]["outcome"], "failed");
  EXPECT_EQ(results[1]["service"]["pid"], 4711);
}

TEST_F(ActionsTest, TimeoutsExit7) {
  answers_.stop = [](const v1::ActionRequest&, v1::ActionResponse* response) {
    Add(response, "web", v1::ActionResult::OUTCOME_TIMED_OUT);
    return grpc::Status::OK;
  };
  EXPECT_EQ(Run({"stop", "web"}).exit_code, 7);
  answers_.stop = [](const v1::ActionRequest&, v1::ActionResponse*) {
    return grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, "");
  };
  EXPECT_EQ(Run({"stop", "web", "--timeout", "1"}).exit_code, 7);
}

TEST_F(ActionsTest, RefusalsHaveTheirExitCodes) {
  grpc::Status refusal;
  answers_.stop = [&refusal](const v1::ActionRequest&, v1::ActionResponse*) { return refusal; };
  refusal = grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "uid 1000 may only look");
  CtlResult result = Run({"stop", "web", "--json"});
  EXPECT_EQ(result.exit_code, 6);
  EXPECT_EQ(Json::parse(result.out)["error"]["message"], "uid 1000 may only look");
  EXPECT_EQ(result.err, "supervisorctl: uid 1000 may only look\n");
  refusal = grpc::Status(grpc::StatusCode::NOT_FOUND, "no such service: wbe");
  EXPECT_EQ(Run({"stop", "wbe"}).exit_code, 4);
  refusal = grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "bad target");
  EXPECT_EQ(Run({"stop", "a/b"}).exit_code, 2);
}

TEST_F(ActionsTest, AnActingCallIsNeverSentTwice) {
  FakeSupervisor* current = nullptr;
  std::atomic<int> calls = 0;
  answers_.restart = [&](const v1::ActionRequest&, v1::ActionResponse*) {
    ++calls;
    current->DropConnections();
    return grpc::Status::OK;
  };
  FakeSupervisor fake(socket_, &answers_);
  current = &fake;
  const CtlResult result = RunCtl({"restart", "web", "--socket", socket_});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("daemon restarted"));
  EXPECT_THAT(result.err, HasSubstr("supervisorctl status"));
  EXPECT_EQ(calls, 1);
}

TEST_F(ActionsTest, SignalsAreSentByName) {
  v1::SignalRequest seen;
  answers_.signal = [&seen](const v1::SignalRequest& request, v1::ActionResponse* response) {
    seen = request;
    Add(response, "web", v1::ActionResult::OUTCOME_DONE, "sent SIGHUP to pid 4711");
    return grpc::Status::OK;
  };
  const CtlResult result = Run({"signal", "HUP", "web", "--reason", "new certificate"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "web: sent SIGHUP to pid 4711\n");
  EXPECT_EQ(seen.signal(), "HUP");
  EXPECT_EQ(seen.reason(), "new certificate");
}

TEST_F(ActionsTest, ReloadPrintsThePlanOrTheErrors) {
  bool dry_run = false;
  answers_.reload = [&dry_run](const v1::ReloadRequest& request, v1::ReloadResponse* response) {
    dry_run = request.dry_run();
    response->add_added()->set_id("new");
    return grpc::Status::OK;
  };
  CtlResult result = Run({"reload", "--dry-run"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_TRUE(dry_run);
  EXPECT_EQ(result.out, "would add new\n0 unchanged\n");
  answers_.reload = [](const v1::ReloadRequest&, v1::ReloadResponse* response) {
    response->add_errors("/etc/x.json:3:5: services.web.prot: unknown key (did you mean \"port\"?)");
    return grpc::Status::OK;
  };
  result = Run({"reload"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, testing::StartsWith("/etc/x.json:3:5: services.web.prot: unknown key"));
  result = Run({"reload", "--json"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(Json::parse(result.out)["errors"].size(), 1U);
  EXPECT_EQ(Json::parse(result.out)["applied"], false);
}

TEST_F(ActionsTest, ShutdownReturnsWhenNobodyListensAnyMore) {
  FakeSupervisor* current = nullptr;
  answers_.version = [](const v1::VersionRequest&, v1::VersionResponse* response) {
    response->set_pid(1);  // no supervisord: it must not be waited for
    return grpc::Status::OK;
  };
  answers_.shutdown = [&](const v1::ShutdownRequest& request, v1::ShutdownResponse* response) {
    EXPECT_EQ(request.reason(), "moving");
    current->StopListening();
    v1::ActionResult& result = *response->add_results();
    result.set_id("web");
    result.set_outcome(v1::ActionResult::OUTCOME_DONE);
    return grpc::Status::OK;
  };
  FakeSupervisor fake(socket_, &answers_);
  current = &fake;
  const CtlResult result = RunCtl({"shutdown", "--reason", "moving", "--socket", socket_});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "web: stopped\nsupervisord: stopped\n");
}

TEST_F(ActionsTest, AConnectionLostInAShutdownThatCameAboutIsSuccess) {
  FakeSupervisor* current = nullptr;
  answers_.shutdown = [&](const v1::ShutdownRequest&, v1::ShutdownResponse*) {
    current->StopListening();
    current->DropConnections();
    return grpc::Status::OK;
  };
  FakeSupervisor fake(socket_, &answers_);
  current = &fake;
  const CtlResult result = RunCtl({"shutdown", "--socket", socket_});
  EXPECT_EQ(result.exit_code, 0) << result.err;
}

TEST_F(ActionsTest, UpgradeWaitsForTheNewDaemon) {
  FakeSupervisor* current = nullptr;
  std::atomic<bool> upgraded = false;
  answers_.version = [&upgraded](const v1::VersionRequest&, v1::VersionResponse* response) {
    response->set_version(upgraded ? "2.0" : "1.0");
    response->set_pid(upgraded ? 200 : 100);
    return grpc::Status::OK;
  };
  answers_.upgrade = [&](const v1::UpgradeRequest&, v1::UpgradeResponse*) {
    upgraded = true;
    current->DropConnections();
    return grpc::Status::OK;
  };
  FakeSupervisor fake(socket_, &answers_);
  current = &fake;
  CtlResult result = RunCtl({"upgrade", "--socket", socket_});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "supervisord: 1.0 (pid 100) was replaced by 2.0 (pid 200); the services go on\n");
  upgraded = false;
  result = RunCtl({"upgrade", "--json", "--socket", socket_});
  EXPECT_EQ(Json::parse(result.out)["new_version"], "2.0");
}

}  // namespace
}  // namespace supervisor
