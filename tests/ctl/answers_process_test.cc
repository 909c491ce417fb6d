// Commands that read: what the real program prints and how it ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <iostream>
#include <nlohmann/json.hpp>

#include "common/clock.h"
#include "tests/ctl/ctl_process.h"
#include "tests/ctl/fake_supervisor.h"

namespace supervisor {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

class AnswersTest : public testing::Test {
 protected:
  CtlResult Run(std::vector<std::string> arguments) {
    const FakeSupervisor fake(socket_, &answers_);
    arguments.insert(arguments.begin(), {"--socket", socket_});
    return RunCtl(arguments);
  }
  void AnswerStatusWith(const std::vector<v1::ServiceState>& states) {
    answers_.status = [states](const v1::StatusRequest&, v1::StatusResponse* response) {
      for (const v1::ServiceState state : states) {
        v1::ServiceStatus& service = *response->add_services();
        service.set_id("service-" + std::to_string(response->services_size()));
        service.set_state(state);
        service.set_enabled(true);
      }
      return grpc::Status::OK;
    };
  }

  TemporaryDirectory directory_;
  std::string socket_ = directory_.path() + "/s.sock";
  FakeAnswers answers_;
};

TEST_F(AnswersTest, StatusExitsByWhatItFound) {
  AnswerStatusWith({v1::SERVICE_STATE_RUNNING, v1::SERVICE_STATE_EXITED});
  CtlResult result = Run({"status"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr("service-1  running"));
  EXPECT_EQ(result.err, "");
  AnswerStatusWith({v1::SERVICE_STATE_RUNNING, v1::SERVICE_STATE_BACKOFF});
  result = Run({"status", "--json"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(Json::parse(result.out)["services"].size(), 2U);
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1);
}

TEST_F(AnswersTest, TargetsAreSentAsTyped) {
  std::vector<std::string> seen;
  answers_.status = [&seen](const v1::StatusRequest& request, v1::StatusResponse*) {
    seen.assign(request.targets().begin(), request.targets().end());
    return grpc::Status::OK;
  };
  EXPECT_EQ(Run({"status", "web*", "[a-c]", "@backend", "worker:0"}).exit_code, 0);
  EXPECT_EQ(seen, (std::vector<std::string>{"web*", "[a-c]", "@backend", "worker:0"}));
}

TEST_F(AnswersTest, AnUnknownServiceIsNamedWithNearMisses) {
  answers_.status = [](const v1::StatusRequest&, v1::StatusResponse*) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such service: wbe (did you mean web?)");
  };
  CtlResult result = Run({"status", "wbe"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, "supervisorctl: no such service: wbe (did you mean web?)\n");
  result = Run({"status", "wbe", "--json"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_EQ(Json::parse(result.out)["error"]["code"], "not_found");
  EXPECT_THAT(result.err, HasSubstr("did you mean web?"));
}

TEST_F(AnswersTest, WhatAnOlderDaemonDoesNotHaveIsSaid) {
  const std::vector<std::vector<std::string>> lines = {
      {"status"},         {"summary"},      {"health"},      {"events"},         {"explain", "web"},
      {"metrics", "web"}, {"alerts"},       {"version"},     {"logs", "web"},    {"upgrade"},
      {"reload"},         {"start", "web"}, {"stop", "web"}, {"restart", "web"}, {"signal", "HUP", "web"}};
  for (const std::vector<std::string>& line : lines) {
    const CtlResult result = Run(line);
    EXPECT_EQ(result.exit_code, 1) << line.front();
    EXPECT_THAT(result.err, HasSubstr("the daemon does not support \"" + line.front() + "\""));
  }
}

TEST_F(AnswersTest, HealthExits3WhenOneIsUnhealthy) {
  uint32_t history = 0;
  answers_.health = [&history](const v1::HealthRequest& request, v1::HealthResponse* response) {
    history = request.history();
    v1::ServiceHealth& web = *response->add_services();
    web.set_id("web");
    web.set_health(v1::HEALTH_STATE_UNHEALTHY);
    web.add_history()->set_message("refused");
    return grpc::Status::OK;
  };
  CtlResult result = Run({"health", "--json", "-n", "7"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(history, 7U);
  EXPECT_EQ(Json::parse(result.out)["services"][0]["history"].size(), 1U);
  result = Run({"health", "--json", "-n", "0"});
  EXPECT_EQ(Json::parse(result.out)["services"][0]["history"].size(), 0U);
}

TEST_F(AnswersTest, TheOtherPagesAreShown) {
  answers_.summary = [](const v1::SummaryRequest&, v1::SummaryResponse* response) {
    response->set_status(v1::SYSTEM_HEALTH_DEGRADED);
    response->add_remarks("the database was set aside");
    return grpc::Status::OK;
  };
  answers_.explain = [](const v1::ExplainRequest& request, v1::ExplainResponse* response) {
    response->mutable_service()->set_id(request.target());
    return grpc::Status::OK;
  };
  answers_.metrics = [](const v1::MetricsRequest& request, v1::MetricsResponse* response) {
    response->set_id(request.target());
    response->add_points()->set_timestamp_unix_ms(request.since_unix_ms());
    return grpc::Status::OK;
  };
  answers_.alerts = [](const v1::AlertsRequest& request, v1::AlertsResponse* response) {
    response->add_alerts()->set_message(request.include_resolved() ? "all" : "open");
    return grpc::Status::OK;
  };
  answers_.version = [](const v1::VersionRequest&, v1::VersionResponse* response) {
    response->set_version("9.8.7");
    return grpc::Status::OK;
  };
  CtlResult result = Run({"summary"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr("degraded"));
  EXPECT_THAT(result.out, HasSubstr("the database was set aside"));
  EXPECT_EQ(Json::parse(Run({"summary", "--json"}).out)["status"], "degraded");
  EXPECT_THAT(Run({"explain", "web"}).out, HasSubstr("web is unknown"));
  EXPECT_EQ(Json::parse(Run({"explain", "web", "--json"}).out)["service"]["id"], "web");
  EXPECT_EQ(Json::parse(Run({"metrics", "web", "--since", "2026-11-23", "--json"}).out)["points"][0]["timestamp"],
            "2026-11-23 00:00:00.000");
  EXPECT_EQ(Json::parse(Run({"alerts", "--all", "--json"}).out)["alerts"][0]["message"], "all");
  EXPECT_THAT(Run({"alerts"}).out, HasSubstr("open"));
  EXPECT_THAT(Run({"version"}).out, HasSubstr("9.8.7"));
  EXPECT_EQ(Json::parse(Run({"version", "--json"}).out)["daemon"]["version"], "9.8.7");
}

TEST_F(AnswersTest, AReadIsTriedAgainWhenTheDaemonIsReplaced) {
  FakeSupervisor* current = nullptr;
  std::atomic<int> calls = 0;
  answers_.status = [&](const v1::StatusRequest&, v1::StatusResponse* response) {
    response->add_services()->set_state(v1::SERVICE_STATE_RUNNING);
    if (++calls == 1) {
      current->DropConnections();
    }
    return grpc::Status::OK;
  };
  FakeSupervisor fake(socket_, &answers_);
  current = &fake;
  const CtlResult result = RunCtl({"status", "--socket", socket_});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(calls, 2);
}

TEST_F(AnswersTest, ADaemonThatIsStoppingIsUnreachable) {
  answers_.status = [](const v1::StatusRequest&, v1::StatusResponse*) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the daemon is stopping");
  };
  const CtlResult result = Run({"status"});
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_THAT(result.err, HasSubstr("the daemon is stopping"));
}

TEST_F(AnswersTest, AClosedStdoutIsQuietAndKeepsTheVerdict) {
  AnswerStatusWith(std::vector<v1::ServiceState>(5000, v1::SERVICE_STATE_FAILED));
  const FakeSupervisor fake(socket_, &answers_);
  CtlProcess process({"status", "--socket", socket_});
  process.CloseStdout();
  const CtlResult result = process.Wait();
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.err, "");
}

TEST_F(AnswersTest, AFullDiskUnderStdoutIsAFailure) {
  AnswerStatusWith({v1::SERVICE_STATE_RUNNING});
  const FakeSupervisor fake(socket_, &answers_);
  CtlProcess process({"status", "--socket", socket_}, {}, {"/bin/sh", "-c", "exec \"$0\" \"$@\" > /dev/full"});
  const CtlResult result = process.Wait();
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("cannot write to stdout: No space left on device"));
}

TEST_F(AnswersTest, PathsWithSpecialCharactersWork) {
  AnswerStatusWith({v1::SERVICE_STATE_RUNNING});
  for (const std::string name : {"a b.sock", "100%25.sock", "ä?#&=.sock", "'quoted'.sock"}) {
    socket_ = directory_.path() + "/" + name;
    const CtlResult result = Run({"status"});
    EXPECT_EQ(result.exit_code, 0) << name << ": " << result.err;
  }
}

TEST_F(AnswersTest, NoColourWithoutATerminal) {
  AnswerStatusWith({v1::SERVICE_STATE_RUNNING});
  EXPECT_THAT(Run({"status"}).out, testing::Not(HasSubstr("\x1b")));
}

// Not a benchmark, but where the number for the report comes from; the bound only catches a blunder.
TEST_F(AnswersTest, StatusIsQuick) {
  AnswerStatusWith(std::vector<v1::ServiceState>(10, v1::SERVICE_STATE_RUNNING));
  const FakeSupervisor fake(socket_, &answers_);
  std::vector<double> times_ms;
  for (int i = 0; i < 51; ++i) {
    const MonoTime start = MonotonicNow();
    EXPECT_EQ(RunCtl({"status", "--socket", socket_}).exit_code, 0);
    times_ms.push_back(absl::ToDoubleMilliseconds(MonotonicNow() - start));
  }
  std::sort(times_ms.begin(), times_ms.end());
  std::cout << "status of 10 services, whole process: median " << times_ms[times_ms.size() / 2] << " ms, fastest "
            << times_ms.front() << " ms\n";
  EXPECT_LT(times_ms.front(), 500);
}

}  // namespace
}  // namespace supervisor
