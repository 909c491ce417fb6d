#include "ctl/render/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace supervisor {
namespace {

using Json = nlohmann::ordered_json;

std::vector<std::string> Keys(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) {
    keys.push_back(key);
  }
  return keys;
}

std::string Details(std::string_view text) {
  JsonWriter json;
  json.Details(text);
  return json.Take();
}

TEST(JsonWriterTest, WritesStringsThatAreAlwaysValid) {
  JsonWriter json;
  json.String(std::string("q\" b\\ n\n t\t nul\0 esc\x1b bad\xFF e\xC3\xA9", 30));
  EXPECT_EQ(json.text(), "\"q\\\" b\\\\ n\\n t\\t nul\\u0000 esc\\u001b bad\xEF\xBF\xBD e\xC3\xA9\"");
  EXPECT_TRUE(Json::accept(json.text()));
  JsonWriter c1;
  c1.String("csi\xC2\x9B nbsp\xC2\xA0");
  EXPECT_EQ(c1.text(), "\"csi\\u009b nbsp\xC2\xA0\"");
}

TEST(JsonWriterTest, WritesNumbers) {
  const auto number = [](double value) {
    JsonWriter json;
    json.Double(value);
    return json.Take();
  };
  EXPECT_EQ(number(0), "0");
  EXPECT_EQ(number(-0.0), "0");
  EXPECT_EQ(number(1.5), "1.5");
  EXPECT_EQ(number(1.0 / 3), "0.333");
  EXPECT_EQ(number(1e300), "1e+300");
  EXPECT_EQ(number(std::nan("")), "null");
  EXPECT_EQ(number(std::numeric_limits<double>::infinity()), "null");
  JsonWriter json;
  json.BeginArray().Int(std::numeric_limits<int64_t>::min()).Unsigned(std::numeric_limits<uint64_t>::max()).EndArray();
  EXPECT_EQ(json.text(), "[-9223372036854775808,18446744073709551615]");
}

TEST(JsonWriterTest, DetailsStayAnObjectOrBecomeAString) {
  EXPECT_EQ(Details(""), "{}");
  EXPECT_EQ(Details("{\"exit_code\": 1,\n \"list\": [1, 2.50, true, null, {}], \"big\": 12345678901234567890123}"),
            "{\"exit_code\":1,\"list\":[1,2.50,true,null,{}],\"big\":12345678901234567890123}");
  EXPECT_EQ(Details(" {\"a\":\"\\u00e9\\n\"} "), "{\"a\":\"\xC3\xA9\\n\"}");
  EXPECT_EQ(Details("[1]"), "\"[1]\"");
  EXPECT_EQ(Details("plain"), "\"plain\"");
  EXPECT_EQ(Details("{\"cut\": "), "\"{\\\"cut\\\": \"");
  EXPECT_EQ(Details("{\"a\":1} trailing"), "\"{\\\"a\\\":1} trailing\"");
  EXPECT_TRUE(Json::accept(Details("{\"bad\":\"\xFF\"}")));
}

TEST(JsonWriterTest, DeepDetailsDoNotOverflowTheStack) {
  std::string deep = "{\"a\":";
  for (int i = 0; i < 200000; ++i) {
    deep += '[';
  }
  EXPECT_EQ(Details(deep).front(), '"');  // never closed: a string
}

v1::ServiceStatus Service() {
  v1::ServiceStatus service;
  service.set_id("web");
  service.set_name("Web Server");
  service.set_state(v1::SERVICE_STATE_RUNNING);
  service.set_pid(4711);
  service.set_port(8080);
  service.set_uptime_seconds(12.34567);
  service.set_restart_count(2);
  service.set_health(v1::HEALTH_STATE_HEALTHY);
  service.set_cpu_percent(3.25);
  service.set_memory_mb(100.5);
  service.set_enabled(true);
  service.set_critical(true);
  service.set_priority(1);
  service.set_exit_code(0);
  return service;
}

TEST(JsonTest, StatusHasTheContractsKeysAndTypes) {
  v1::StatusResponse response;
  *response.add_services() = Service();
  response.add_services()->set_id("db");
  const Json json = Json::parse(StatusJson(response));
  EXPECT_EQ(Keys(json), std::vector<std::string>{"services"});
  const Json& web = json["services"][0];
  EXPECT_EQ(Keys(web), (std::vector<std::string>{"id", "name", "state", "pid", "port", "uptime_seconds",
                                                 "restart_count", "health", "cpu_percent", "memory_mb", "enabled",
                                                 "critical", "priority", "exit_code", "exit_signal", "reason"}));
  EXPECT_EQ(web["name"], "Web Server");
  EXPECT_EQ(web["state"], "running");
  EXPECT_EQ(web["pid"], 4711);
  EXPECT_EQ(web["uptime_seconds"], 12.346);
  EXPECT_EQ(web["health"], "healthy");
  EXPECT_EQ(web["exit_code"], 0);
  EXPECT_TRUE(web["exit_signal"].is_null());
  EXPECT_EQ(web["critical"], true);
  const Json& db = json["services"][1];
  EXPECT_EQ(db["name"], "db");
  EXPECT_EQ(db["pid"], 0);
  EXPECT_EQ(db["port"], 0);
  EXPECT_EQ(db["health"], "unknown");
  EXPECT_TRUE(db["exit_code"].is_null());
  EXPECT_EQ(db["reason"], "");
}

TEST(JsonTest, EventsHaveTheContractsKeys) {
  google::protobuf::RepeatedPtrField<v1::Event> events;
  v1::Event& event = *events.Add();
  event.set_id(7);
  event.set_service_id("web");
  event.set_event_type("exited");
  event.set_timestamp_unix_ms(1795418895042);
  event.set_message("killed by SIGSEGV");
  event.set_details("{\"signal\":11}");
  event.set_actor("policy");
  const Json json = Json::parse(EventsJson(events));
  const Json& first = json["events"][0];
  EXPECT_EQ(Keys(first),
            (std::vector<std::string>{"id", "service_id", "event_type", "timestamp", "message", "details", "actor"}));
  EXPECT_EQ(first["id"], 7);
  EXPECT_EQ(first["timestamp"], "2026-11-23 07:28:15.042");
  EXPECT_EQ(first["details"]["signal"], 11);
  EXPECT_EQ(Json::parse(EventJson(event)), first);
}

TEST(JsonTest, HealthHasTheContractsKeys) {
  v1::HealthResponse response;
  response.set_status(v1::SYSTEM_HEALTH_DEGRADED);
  v1::ServiceHealth& service = *response.add_services();
  service.set_id("web");
  service.set_health(v1::HEALTH_STATE_UNHEALTHY);
  service.set_check_type("http");
  service.set_success_rate(66.6667);
  service.add_history()->set_health(v1::HEALTH_STATE_UNHEALTHY);
  const Json json = Json::parse(HealthJson(response));
  EXPECT_EQ(Keys(json), (std::vector<std::string>{"status", "services"}));
  EXPECT_EQ(json["status"], "degraded");
  const Json& web = json["services"][0];
  EXPECT_EQ(Keys(web), (std::vector<std::string>{"id", "health", "check_type", "last_check", "response_time_ms",
                                                 "consecutive_failures", "success_rate", "message", "history"}));
  EXPECT_TRUE(web["last_check"].is_null());
  EXPECT_EQ(web["success_rate"], 66.667);
  EXPECT_EQ(Keys(web["history"][0]), (std::vector<std::string>{"timestamp", "health", "response_time_ms", "message"}));
}

TEST(JsonTest, SummaryAndReloadHaveTheContractsKeys) {
  v1::SummaryResponse summary;
  summary.set_status(v1::SYSTEM_HEALTH_CRITICAL);
  const Json summary_json = Json::parse(SummaryJson(summary));
  EXPECT_EQ(Keys(summary_json),
            (std::vector<std::string>{"status", "total", "running", "stopped", "failed", "unhealthy", "restarts",
                                      "alerts", "uptime_seconds", "cpu_percent", "memory_mb", "version", "services"}));
  EXPECT_EQ(summary_json["status"], "critical");

  v1::ReloadResponse reload;
  reload.set_applied(true);
  reload.add_restarted()->set_id("web");
  reload.mutable_restarted(0)->add_keys("command");
  reload.add_unchanged("db");
  const Json reload_json = Json::parse(ReloadJson(reload));
  EXPECT_EQ(Keys(reload_json),
            (std::vector<std::string>{"applied", "added", "removed", "restarted", "updated", "unchanged", "errors"}));
  EXPECT_EQ(reload_json["restarted"], Json::array({"web"}));
  EXPECT_EQ(reload_json["added"], Json::array());
}

TEST(JsonTest, TheOthersAreValid) {
  v1::ActionResponse action;
  action.add_results()->set_outcome(v1::ActionResult::OUTCOME_TIMED_OUT);
  const Json results = Json::parse(ActionJson(action.results()))["results"];
  EXPECT_EQ(results[0]["outcome"], "timed_out");
  EXPECT_TRUE(results[0]["service"].is_null());
  v1::ExplainResponse explain;
  *explain.mutable_service() = Service();
  explain.add_last_lines("bad \xFF");
  EXPECT_EQ(Json::parse(ExplainJson(explain))["service"]["id"], "web");
  v1::MetricsResponse metrics;
  metrics.add_points()->set_cpu_percent(1);
  const Json point = Json::parse(MetricsJson(metrics))["points"][0];
  EXPECT_EQ(point["cpu_percent"], 1);
  EXPECT_TRUE(point["memory_mb"].is_null());
  v1::TestNotificationsResponse tests;
  EXPECT_EQ(ChannelTestsJson(tests), R"({"results":[]})");
  v1::ChannelTest* test = tests.add_channels();
  test->set_channel("slack hooks.example");
  test->set_type("slack");
  test->set_delivered(true);
  EXPECT_EQ(Json::parse(ChannelTestsJson(tests))["results"][0],
            Json::parse(R"({"channel": "slack hooks.example", "type": "slack", "outcome": "delivered", "message": "",
                            "response_time_ms": 0})"));
  v1::AlertsResponse alerts;
  alerts.add_alerts()->set_raised_unix_ms(1);
  EXPECT_TRUE(Json::parse(AlertsJson(alerts))["alerts"][0]["resolved_at"].is_null());
  EXPECT_TRUE(Json::parse(VersionJson("1.51", nullptr))["daemon"].is_null());
  v1::VersionResponse version;
  version.set_pid(5);
  EXPECT_EQ(Json::parse(VersionJson("1.51", &version))["daemon"]["pid"], 5);
  EXPECT_EQ(Json::parse(ErrorJson("not_found", "no \"x\""))["error"]["code"], "not_found");
}

TEST(JsonTest, StatesAndOutcomesUseTheContractsWords) {
  v1::StatusResponse response;
  for (int state = v1::SERVICE_STATE_STOPPED; state <= v1::SERVICE_STATE_EXITED; ++state) {
    response.add_services()->set_state(static_cast<v1::ServiceState>(state));
  }
  std::vector<std::string> words;
  const Json json = Json::parse(StatusJson(response));
  for (const Json& service : json["services"]) {
    words.push_back(service["state"]);
  }
  EXPECT_EQ(words,
            (std::vector<std::string>{"stopped", "starting", "running", "stopping", "backoff", "failed", "exited"}));
}

}  // namespace
}  // namespace supervisor
