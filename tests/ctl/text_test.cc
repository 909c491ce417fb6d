#include "ctl/render/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "ctl/render/utf8.h"

namespace supervisor {
namespace {

using testing::HasSubstr;
using testing::Not;

v1::StatusResponse TwoServices() {
  v1::StatusResponse response;
  v1::ServiceStatus& web = *response.add_services();
  web.set_id("web");
  web.set_state(v1::SERVICE_STATE_RUNNING);
  web.set_pid(4711);
  web.set_port(8080);
  web.set_uptime_seconds(200);
  web.set_health(v1::HEALTH_STATE_HEALTHY);
  web.set_cpu_percent(1.25);
  web.set_memory_mb(2048);
  v1::ServiceStatus& worker = *response.add_services();
  worker.set_id("arbeiter-ä");
  worker.set_state(v1::SERVICE_STATE_STOPPED);
  return response;
}

TEST(StatusTextTest, AlignsByWhatIsSeen) {
  EXPECT_EQ(StatusText(TwoServices().services(), false),
            "SERVICE     STATE     PID  UPTIME  RESTARTS  HEALTH    CPU  MEMORY  PORT\n"
            "web         running  4711  3m 20s         0  healthy  1.2%  2.0 GB  8080\n"
            "arbeiter-ä  stopped     -       -         0  unknown     -       -     -\n");
}

TEST(StatusTextTest, ALoadThatIsNotKnownYetIsNotTold) {
  v1::StatusResponse response = TwoServices();
  response.mutable_services(0)->set_cpu_percent(0);
  response.mutable_services(0)->set_memory_mb(0);
  EXPECT_THAT(StatusText(response.services(), false), HasSubstr("healthy    -       -  8080\n"));
  response.mutable_services(0)->set_memory_mb(1);
  EXPECT_THAT(StatusText(response.services(), false), HasSubstr("healthy  0.0%  1.0 MB  8080\n"));
}

TEST(StatusTextTest, ShowsReasonsWhereThereIsOne) {
  v1::StatusResponse response = TwoServices();
  response.mutable_services(1)->set_reason("stopped by\nuid 0");
  const std::string text = StatusText(response.services(), false);
  EXPECT_THAT(text, HasSubstr("PORT  REASON\n"));
  EXPECT_THAT(text, HasSubstr("8080\n"));  // no blanks at the end
  EXPECT_THAT(text, HasSubstr("stopped by\\nuid 0\n"));
}

TEST(StatusTextTest, LeavesOutWhatDoesNotFitAndSaysSo) {
  v1::StatusResponse response = TwoServices();
  response.mutable_services(1)->set_reason("stopped by uid 0 (root) pid 4712 (supervisorctl): a long reason");
  const auto longest_line = [](const std::string& text) {
    size_t longest = 0;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = text.find('\n', begin);
      longest = std::max(longest, DisplayWidth(text.substr(begin, end - begin)));
      begin = end + 1;
    }
    return longest;
  };
  const std::string whole = StatusText(response.services(), false);
  EXPECT_EQ(StatusText(response.services(), false, "", 500), whole);
  for (size_t width = longest_line(whole) - 1; width >= 52; --width) {
    const std::string text = StatusText(response.services(), false, "", width);
    EXPECT_LE(longest_line(text), width) << text;
    EXPECT_THAT(text, HasSubstr("SERVICE     STATE"));
    EXPECT_THAT(text, HasSubstr("stopped by uid "));
    EXPECT_THAT(text, HasSubstr("…\n"));
  }
  EXPECT_EQ(StatusText(response.services(), false, "", 80),
            "SERVICE     STATE     PID  UPTIME  RESTARTS  HEALTH    CPU  REASON\n"
            "web         running  4711  3m 20s         0  healthy  1.2%\n"
            "arbeiter-ä  stopped     -       -         0  unknown     -  stopped by uid 0 (r…\n"
            "(too narrow for: MEMORY, PORT)\n");
}

TEST(TopTextTest, EachLineIsCutToTheScreen) {
  v1::SummaryResponse response;
  *response.mutable_services() = TwoServices().services();
  v1::Event& event = *response.add_recent_events();
  event.set_service_id("web");
  event.set_event_type("failed");
  event.set_message(std::string(200, 'x'));
  for (const bool color : {false, true}) {
    const std::string text = TopText(response, TopOrder::kCpu, 0, color, 70);
    EXPECT_THAT(text, HasSubstr("xx…"));
    EXPECT_THAT(text, HasSubstr("(too narrow for: PORT"));
  }
}

TEST(StatusTextTest, ShowsLimitsWhereThereAreSome) {
  v1::StatusResponse response = TwoServices();
  v1::ResourceLimit& memory = *response.mutable_services(0)->add_limits();
  memory.set_name("memory");
  memory.set_value(64);
  memory.set_enforcement("cgroup");
  const std::string text = StatusText(response.services(), false);
  EXPECT_THAT(text, HasSubstr("PORT  LIMITS\n"));
  EXPECT_THAT(text, HasSubstr("8080  memory 64 MB (cgroup)\n"));
}

TEST(ExplainTextTest, SaysHowEachLimitIsInForce) {
  v1::ExplainResponse response;
  *response.mutable_service() = TwoServices().services(0);
  EXPECT_THAT(ExplainText(response, false), Not(HasSubstr("limits")));
  for (const auto& [name, value, way] : {std::tuple{"memory", 64.0, "cgroup"}, {"cpu", 12.5, "watch"}}) {
    v1::ResourceLimit& limit = *response.mutable_service()->add_limits();
    limit.set_name(name);
    limit.set_value(value);
    limit.set_enforcement(way);
    limit.set_watch_interval_seconds(way == std::string_view("watch") ? 10 : 0);
  }
  EXPECT_THAT(ExplainText(response, false), HasSubstr("memory 64 MB (cgroup), cpu 12.5% (watched every 10 s)\n"));
}

TEST(StatusTextTest, ColoursOnlyWhenAsked) {
  EXPECT_THAT(StatusText(TwoServices().services(), false), Not(HasSubstr("\x1b")));
  EXPECT_THAT(StatusText(TwoServices().services(), true), HasSubstr("\x1b[32mrunning\x1b[0m"));
  EXPECT_EQ(StatusText({}, false), "No services are configured.\n");
}

v1::ActionResult Result(v1::ActionResult::Outcome outcome, v1::ServiceState state, int pid,
                        const std::string& message = "") {
  v1::ActionResult result;
  result.set_id("web");
  result.set_outcome(outcome);
  result.set_message(message);
  result.mutable_service()->set_state(state);
  result.mutable_service()->set_pid(pid);
  return result;
}

TEST(ActionLineTest, SaysWhatCameAbout) {
  using R = v1::ActionResult;
  const auto running = v1::SERVICE_STATE_RUNNING;
  const auto stopped = v1::SERVICE_STATE_STOPPED;
  EXPECT_EQ(ActionLine(Action::kStart, Result(R::OUTCOME_DONE, running, 7)), "web: started, pid 7");
  EXPECT_EQ(ActionLine(Action::kRestart, Result(R::OUTCOME_DONE, running, 7)), "web: restarted, pid 7");
  EXPECT_EQ(ActionLine(Action::kStop, Result(R::OUTCOME_DONE, stopped, 0)), "web: stopped");
  EXPECT_EQ(ActionLine(Action::kStart, Result(R::OUTCOME_UNCHANGED, running, 7)), "web: already running, pid 7");
  EXPECT_EQ(ActionLine(Action::kStop, Result(R::OUTCOME_UNCHANGED, stopped, 0)), "web: already stopped");
  EXPECT_EQ(ActionLine(Action::kStart, Result(R::OUTCOME_ACCEPTED, running, 0)), "web: starting (not waited for)");
  EXPECT_EQ(
      ActionLine(Action::kStart, Result(R::OUTCOME_FAILED, stopped, 0,
                                        "cannot start web: working_directory /srv/app: No such file or directory")),
      "web: failed: cannot start web: working_directory /srv/app: No such file or directory");
  EXPECT_THAT(ActionLine(Action::kStop, Result(R::OUTCOME_TIMED_OUT, running, 7)),
              HasSubstr("web: timed out: still stopping"));
  v1::ActionResult one_off = Result(R::OUTCOME_DONE, v1::SERVICE_STATE_EXITED, 0);
  one_off.mutable_service()->set_exit_code(0);
  EXPECT_EQ(ActionLine(Action::kStart, one_off), "web: started and finished, exit code 0");
  EXPECT_EQ(ActionLine(Action::kSignal, Result(R::OUTCOME_DONE, running, 7, "sent SIGHUP to pid 7")),
            "web: sent SIGHUP to pid 7");
  EXPECT_EQ(ActionLine(Action::kSignal, Result(R::OUTCOME_DONE, running, 7)), "web: signalled, pid 7");
}

TEST(ActionLineTest, SaysWhyAnUnnamedOneWasTouched) {
  v1::ActionResult result = Result(v1::ActionResult::OUTCOME_DONE, v1::SERVICE_STATE_STOPPED, 0);
  result.set_implied(true);
  EXPECT_EQ(ActionLine(Action::kStop, result), "web: stopped (depends on what was stopped)");
  EXPECT_EQ(ActionLine(Action::kStart, result), "web: started (a dependency)");
  EXPECT_EQ(ActionLine(Action::kRestart, result), "web: started (a dependency)");
  result.set_is_dependent(true);
  EXPECT_EQ(ActionLine(Action::kRestart, result), "web: restarted (depends on what was restarted)");
}

TEST(ActionLineTest, SaysHowAStopCameAbout) {
  const v1::ActionResult result = Result(v1::ActionResult::OUTCOME_DONE, v1::SERVICE_STATE_STOPPED, 0,
                                         "it did not stop within 10 s: SIGKILL was sent");
  EXPECT_EQ(ActionLine(Action::kStop, result), "web: stopped (it did not stop within 10 s: SIGKILL was sent)");
}

TEST(ActionLineTest, SaysWhatWentOn) {
  v1::ActionResult result = Result(v1::ActionResult::OUTCOME_DONE, v1::SERVICE_STATE_RUNNING, 7);
  result.set_left_running("left running: 4711 (s\x1bh)");
  EXPECT_EQ(ActionLine(Action::kRestart, result), "web: restarted, pid 7; left running: 4711 (s\\x1bh)");
}

TEST(ActionLineTest, EscapesTheDaemonsMessage) {
  EXPECT_EQ(
      ActionLine(Action::kStart, Result(v1::ActionResult::OUTCOME_FAILED, v1::SERVICE_STATE_FAILED, 0, "\x1b[2J\nx")),
      "web: failed: \\x1b[2J\\nx");
}

TEST(ReloadTextTest, SaysThePlan) {
  v1::ReloadResponse response;
  response.set_applied(true);
  response.add_added()->set_id("new");
  response.add_restarted()->set_id("web");
  response.mutable_restarted(0)->add_keys("command");
  response.mutable_restarted(0)->add_keys("args");
  response.add_unchanged("db");
  EXPECT_EQ(ReloadText(response, false, false), "added new\nrestarted web (command, args)\n1 unchanged\n");
  EXPECT_EQ(ReloadText(response, true, false), "would add new\nwould restart web (command, args)\n1 unchanged\n");
  v1::ReloadResponse nothing;
  nothing.add_unchanged("db");
  EXPECT_EQ(ReloadText(nothing, false, false), "Nothing has changed (1 services).\n");
  nothing.add_global_updated("global.log_level");
  nothing.add_needs_daemon_restart("global.socket");
  EXPECT_EQ(ReloadText(nothing, true, false),
            "would update global.log_level\ntakes effect when supervisord itself is restarted: global.socket\n"
            "1 unchanged\n");
}

TEST(ExplainTextTest, TellsTheWholeStory) {
  v1::ExplainResponse response;
  response.mutable_service()->set_id("web");
  response.mutable_service()->set_name("Web Server");
  response.mutable_service()->set_state(v1::SERVICE_STATE_BACKOFF);
  response.mutable_service()->set_exit_signal(11);
  response.add_causes("it was killed by SIGSEGV");
  response.add_last_lines("\x1b[31mboom");
  response.set_next("starts again in 4 s (attempt 2 of 3)");
  response.mutable_health()->set_check_type("http");
  response.mutable_health()->set_health(v1::HEALTH_STATE_UNHEALTHY);
  response.mutable_health()->set_consecutive_failures(3);
  const std::string text = ExplainText(response, false);
  EXPECT_THAT(text, testing::StartsWith("web (Web Server) is backoff\n"));
  EXPECT_THAT(text, HasSubstr("last exit    killed by SIGSEGV\n"));
  EXPECT_THAT(text, HasSubstr("1. it was killed by SIGSEGV\n"));
  EXPECT_THAT(text, HasSubstr("starts again in 4 s (attempt 2 of 3)\n"));
  EXPECT_THAT(text, HasSubstr("| \\x1b[31mboom\n"));
  EXPECT_THAT(text, HasSubstr("unhealthy (http check), failed 3 times in a row\n"));
}

TEST(OtherTextsTest, CopeWithNothing) {
  EXPECT_EQ(AlertsText({}, false), "No alerts.\n");
  v1::TestNotificationsResponse tests;
  EXPECT_EQ(ChannelTestsText(tests, false), "");
  v1::ChannelTest* test = tests.add_channels();
  test->set_channel("webhook a.example\x1b[31m");
  test->set_message("HTTP 404");
  const std::string text = ChannelTestsText(tests, false);
  EXPECT_NE(text.find("failed"), std::string::npos);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_THAT(MetricsText({}, false), HasSubstr("No metrics"));
  EXPECT_EQ(HealthText({}, true, false), "No services are configured.\n");
  EXPECT_THAT(SummaryText({}, false), HasSubstr("0 in all"));
  EXPECT_THAT(VersionText("1.51.1", nullptr, 0), HasSubstr("(gRPC 1.51.1)\n"));
}

TEST(VersionTextTest, ShowsBothEnds) {
  v1::VersionResponse daemon;
  daemon.set_version("9.8.7");
  daemon.set_pid(12);
  daemon.set_guardian_pid(11);
  daemon.set_started_unix_ms(1795418895042);
  const std::string text = VersionText("1.51.1", &daemon, 1795418895042 + 200000);
  EXPECT_THAT(text, HasSubstr("supervisord   9.8.7"));
  EXPECT_THAT(text, HasSubstr("pid            12, guardian 11\n"));
  EXPECT_THAT(text, HasSubstr("started        2026-11-23 07:28:15.042 UTC, 3m 20s ago\n"));
}

TEST(EventLineTest, IsOneLine) {
  v1::Event event;
  event.set_service_id("web");
  event.set_event_type("exited");
  event.set_timestamp_unix_ms(1795418895042);
  event.set_message("exit\ncode 1");
  event.set_actor("policy");
  EXPECT_EQ(EventLine(event, false),
            "2026-11-23 07:28:15.042  web                   exited              exit\\ncode 1 [by policy]\n");
}

TEST(HealthTextTest, ShowsHistoryInDetail) {
  v1::HealthResponse response;
  v1::ServiceHealth& web = *response.add_services();
  web.set_id("web");
  web.set_check_type("http");
  web.set_health(v1::HEALTH_STATE_HEALTHY);
  web.set_last_check_unix_ms(1795418895042);
  web.set_response_time_ms(12.34);
  web.set_success_rate(100);
  web.set_checks_hour(120);
  web.set_success_rate_hour(97.5);
  web.set_p50_ms_hour(10);
  web.set_p95_ms_hour(1500);
  web.add_history()->set_message("status 200");
  EXPECT_THAT(HealthText(response, false, false), Not(HasSubstr("status 200")));
  const std::string text = HealthText(response, true, false);
  EXPECT_THAT(text, HasSubstr("status 200\n"));
  EXPECT_THAT(text, HasSubstr("12.3 ms   100.0%"));
  EXPECT_THAT(text, HasSubstr("over the last hour: 97.5% of 120 checks succeeded, "
                              "response time: median 10.0 ms, 95% below 1.50 s\n"));
}

}  // namespace
}  // namespace supervisor
