#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "daemon/config/load.h"
#include "tests/daemon/config/config_files.h"

namespace supervisor {
namespace {

std::string Errors(const std::string& text, const std::map<std::string, std::string>& environment = {}) {
  const ConfigFiles files;
  return Joined(files.Errors(text, environment));
}

// The errors of one service's keys, without the place.
std::string ServiceErrors(const std::string& keys, const std::map<std::string, std::string>& environment = {}) {
  const ConfigFiles files;
  std::string out;
  for (const ConfigError& error :
       files.Load(R"({"services": {"web": {"command": "x", )" + keys + "}}}", environment).errors) {
    out += out.empty() ? "" : "\n";
    out += error.path.starts_with("services.web.") ? error.path.substr(13) : error.path;
    out += ": " + error.message;
  }
  return out;
}

TEST(ConfigErrors, AreWrittenWithFileLineColumnAndPath) {
  const ConfigFiles files;
  const LoadedConfig loaded =
      files.Load("{\n  \"services\": {\n    \"web\": {\"command\": \"x\", \"port\": 70000}\n  }\n}\n");
  ASSERT_EQ(loaded.errors.size(), 1U);
  EXPECT_EQ(loaded.errors[0].ToString(),
            files.main_file() + ":3:37: services.web.port: is 70000 (expected a whole number from 0 to 65535)");
  EXPECT_FALSE(loaded.config);
}

TEST(ConfigErrors, AllAreReportedAtOnceByPosition) {
  EXPECT_EQ(
      Errors(R"json({
  "version": "2.0",
  "globl": {},
  "services": {
    "web": {"prot": 8080, "command": "", "depends_on": ["bd", "web"], "priority": 1.5},
    "db": {"enabled": "yes", "health_check": {"interval": -1}},
    "bad id": {"command": "x"},
    "all": {"command": "x"},
    "db": {"command": "x"}
  },
  "monitoring": 3
})json"),
      "2:14: version: is \"2.0\" (expected \"1.0\")\n"
      "3:3: globl: unknown key (did you mean \"global\"?)\n"
      "5:13: services.web.prot: unknown key (did you mean \"port\"?)\n"
      "5:38: services.web.command: is empty (expected the program to run, such as \"python3\", its arguments in "
      "\"args\")\n"
      "5:57: services.web.depends_on[0]: is \"bd\", but there is no such service (did you mean \"db\"?)\n"
      "5:63: services.web.depends_on[1]: the service depends on itself (expected another service)\n"
      "5:83: services.web.priority: is 1.5 (expected a whole number from -1000000 to 1000000)\n"
      "6:5: services.db.command: is missing (expected the program to run, such as \"python3\", its arguments in "
      "\"args\")\n"
      "6:23: services.db.enabled: is the string \"yes\" (expected true or false, without quotes)\n"
      "6:30: services.db.health_check.url: is missing (expected the address to ask, such as "
      "\"http://127.0.0.1:8080/health\")\n"
      "6:59: services.db.health_check.interval: is -1 (expected seconds from 0.001 to 315360000)\n"
      "7:5: services[\"bad id\"]: \"bad id\" is no service id (expected 1 to 64 of A-Z a-z 0-9 _ . -, a letter or "
      "digit first)\n"
      "8:5: services.all: \"all\" is reserved: it means every service (expected another id)\n"
      "9:5: services.db: duplicate key (it already stands at line 6, column 5)\n"
      "11:17: monitoring: is a number (expected an object: {...})\n");
}

TEST(ConfigErrors, TheRootMustBeAnObjectOfKnownKeys) {
  EXPECT_EQ(Errors("[]"), "1:1: is a list (expected an object: {...})\n");
  EXPECT_EQ(Errors("\"x\""), "1:1: is a string (expected an object: {...})\n");
  EXPECT_EQ(Errors(R"({"version": 1.0})"), "1:13: version: is a number (expected \"1.0\": put it into quotes)\n");
  EXPECT_EQ(Errors(R"({"zzzzzz": 1})"),
            "1:2: zzzzzz: unknown key (expected \"version\", \"global\", \"services\", \"notifications\" or "
            "\"monitoring\")\n");
  EXPECT_EQ(Errors(R"({"log_level": "info"})"), "1:2: log_level: unknown key (did you mean \"global.log_level\"?)\n");
  EXPECT_EQ(Errors(R"({"services": []})"), "1:14: services: is a list (expected an object: {...})\n");
  EXPECT_EQ(Errors(R"({"services": {"a": "python3"}})"), "1:20: services.a: is a string (expected an object: {...})\n");
}

TEST(ConfigErrors, ServiceIds) {
  const std::string rule = " is no service id (expected 1 to 64 of A-Z a-z 0-9 _ . -, a letter or digit first)\n";
  EXPECT_EQ(Errors(R"({"services": {"../x": {"command": "x"}}})"), "1:15: services[\"../x\"]: \"../x\"" + rule);
  EXPECT_EQ(Errors(R"({"services": {"": {"command": "x"}}})"), "1:15: services[\"\"]: \"\"" + rule);
  EXPECT_EQ(Errors(R"({"services": {".x": {"command": "x"}}})"), "1:15: services..x: \".x\"" + rule);
  EXPECT_EQ(Errors(R"({"services": {"a:0": {"command": "x"}}})"), "1:15: services[\"a:0\"]: \"a:0\"" + rule);
  EXPECT_EQ(Errors(R"({"services": {"a\u0000": {"command": "x"}}})"), "1:15: services[\"a\\x00\"]: \"a\\x00\"" + rule);
  EXPECT_EQ(Errors(R"({"services": {"supervisor": {"command": "x"}}})"),
            "1:15: services.supervisor: \"supervisor\" is reserved: events of the daemon itself carry it (expected "
            "another id)\n");
  EXPECT_EQ(Errors("{\"services\": {\"" + std::string(64, 'x') + "\": {\"command\": \"x\"}}}"), "");
  EXPECT_NE(Errors("{\"services\": {\"" + std::string(65, 'x') + "\": {\"command\": \"x\"}}}"), "");
}

TEST(ConfigErrors, WrongTypes) {
  EXPECT_EQ(ServiceErrors(R"("port": "8080")"),
            "port: is the string \"8080\" (expected a whole number from 0 to 65535, without quotes)");
  EXPECT_EQ(ServiceErrors(R"("port": null)"), "port: is null (expected a whole number from 0 to 65535)");
  EXPECT_EQ(ServiceErrors(R"("critical": 1)"), "critical: is 1 (expected true or false)");
  EXPECT_EQ(ServiceErrors(R"("args": "--x")"),
            "args: is a string (expected a list of strings: put it into brackets, [\"...\"])");
  EXPECT_EQ(ServiceErrors(R"("args": ["--port", 8080, true])"),
            "args[1]: is a number (expected a string: put it into quotes)\n"
            "args[2]: is true (expected a string: put it into quotes)");
  EXPECT_EQ(ServiceErrors(R"("environment": ["A=b"])"),
            "environment: is a list (expected an object: {\"NAME\": \"value\"})");
  EXPECT_EQ(ServiceErrors(R"("environment": {"A": 1})"),
            "environment.A: is a number (expected a string: put it into quotes)");
  EXPECT_EQ(ServiceErrors(R"("umask": 22)"),
            "umask: is a number (expected a string of octal digits, such as \"022\" or \"0660\": put it into quotes)");
  EXPECT_EQ(ServiceErrors(R"("name": ["x"])"), "name: is a list (expected a string)");
  EXPECT_EQ(ServiceErrors(R"("logs": [])"), "logs: is a list (expected an object: {...})");
  EXPECT_EQ(ServiceErrors(R"("restart_policy": {"success_exit_codes": 0})"),
            "restart_policy.success_exit_codes: is 0 (expected a list of whole numbers, such as [0])");
}

TEST(ConfigErrors, NumbersOutOfRange) {
  EXPECT_EQ(ServiceErrors(R"("port": -1)"), "port: is -1 (expected a whole number from 0 to 65535)");
  EXPECT_EQ(ServiceErrors(R"("instances": 0)"), "instances: is 0 (expected a whole number from 1 to 10000)");
  EXPECT_EQ(ServiceErrors(R"("instances": 1e300)"), "instances: is 1e300 (expected a whole number from 1 to 10000)");
  EXPECT_EQ(ServiceErrors(
                R"("restart_policy": {"jitter": 1.1, "backoff_multiplier": 0.5, "delay": -0.1, "max_attempts": 2.5})"),
            "restart_policy.jitter: is 1.1 (expected a number from 0 to 1)\n"
            "restart_policy.backoff_multiplier: is 0.5 (expected a number from 1 to 1000)\n"
            "restart_policy.delay: is -0.1 (expected seconds from 0 to 315360000)\n"
            "restart_policy.max_attempts: is 2.5 (expected a whole number from 0 to 1000000)");
  EXPECT_EQ(
      ServiceErrors(R"("restart_policy": {"delay": 20, "max_delay": 10})"),
      "restart_policy.max_delay: is less than the delay of 20 seconds (expected at least as much, or 0 for no limit)");
  EXPECT_EQ(ServiceErrors(R"("restart_policy": {"success_exit_codes": [0, 256, 0]})"),
            "restart_policy.success_exit_codes[1]: is 256 (expected a whole number from 0 to 255)\n"
            "restart_policy.success_exit_codes[2]: 0 is listed twice");
  EXPECT_EQ(ServiceErrors(R"("resource_limits": {"nice": 20, "oom_score_adj": -1001, "max_memory_mb": -1})"),
            "resource_limits.nice: is 20 (expected a whole number from -20 to 19)\n"
            "resource_limits.oom_score_adj: is -1001 (expected a whole number from -1000 to 1000)\n"
            "resource_limits.max_memory_mb: is -1 (expected a number from 0 to 1000000000)");
  EXPECT_EQ(Errors(R"({"global": {"check_interval": 0, "max_restart_attempts": -1}})"),
            "1:31: global.check_interval: is 0 (expected seconds from 0.001 to 315360000)\n"
            "1:58: global.max_restart_attempts: is -1 (expected a whole number from 0 to 1000000)\n");
}

TEST(ConfigErrors, ChoicesWithNearMisses) {
  EXPECT_EQ(ServiceErrors(R"("restart_policy": {"mode": "on_failure"})"),
            "restart_policy.mode: is \"on_failure\" (did you mean \"on-failure\"? expected \"always\", \"on-failure\" "
            "or \"never\")");
  EXPECT_EQ(
      ServiceErrors(R"("restart_policy": {"mode": "Always"})"),
      "restart_policy.mode: is \"Always\" (did you mean \"always\"? expected \"always\", \"on-failure\" or \"never\")");
  EXPECT_EQ(ServiceErrors(R"("logs": {"forward": "journal"})"),
            "logs.forward: is \"journal\" (expected \"none\", \"stdout\" or \"syslog\")");
  EXPECT_EQ(ServiceErrors(R"("logs": {"mode": 640})"),
            "logs.mode: is a number (expected a string: put it into quotes)");
  EXPECT_EQ(ServiceErrors(R"("logs": {"mode": "0888"})"),
            "logs.mode: is \"0888\" (expected a string of octal digits, such as \"0640\", at most \"0777\")");
  EXPECT_NE(ServiceErrors(R"("logs": {"mode": "01777"})"), "");
  EXPECT_EQ(ServiceErrors(R"("logs": {"mode": "0440"})"),
            "logs.mode: is \"0440\", with which the file's owner could not read and write it (expected \"0600\" or "
            "more)");
  EXPECT_EQ(ServiceErrors(R"("logs": {"mode": "", "owner": "", "group": "4711"})"), "");
  EXPECT_EQ(ServiceErrors(R"("logs": {"owner": "root:adm"})"),
            "logs.owner: is \"root:adm\", which names no account (expected a name or a number, without spaces, \":\" "
            "or \"/\")");
  EXPECT_NE(ServiceErrors(R"("logs": {"group": "a b"})"), "");
  EXPECT_NE(ServiceErrors(R"("logs": {"owner": "-1"})"), "");
  EXPECT_NE(ServiceErrors(R"("logs": {"owner": 0})"), "");
  EXPECT_EQ(ServiceErrors(R"("logs": {"stderr": "x"})"), "logs.stderr: is \"x\" (expected \"merge\" or \"separate\")");
  EXPECT_EQ(ServiceErrors(R"("graceful_shutdown": {"max_extension": -1})"),
            "graceful_shutdown.max_extension: is -1 (expected seconds from 0 to 315360000)");
  EXPECT_EQ(ServiceErrors(R"("readiness": {"max_extention": 1})"),
            "readiness.max_extention: unknown key (did you mean \"max_extension\"?)");
  EXPECT_EQ(ServiceErrors(R"("graceful_shutdown": {"signal": "SIGTREM"})"),
            "graceful_shutdown.signal: is \"SIGTREM\" (did you mean \"SIGTERM\" or \"SIGTRAP\"? expected a signal such "
            "as \"SIGTERM\")");
  EXPECT_EQ(
      ServiceErrors(R"("graceful_shutdown": {"signal": 15})"),
      "graceful_shutdown.signal: is a number (expected the name of a signal, such as \"SIGTERM\": put it into quotes)");
  EXPECT_EQ(Errors(R"({"global": {"log_level": "warn"}})"),
            "1:26: global.log_level: is \"warn\" (did you mean \"warning\"? expected \"debug\", \"info\", \"warning\" "
            "or \"error\")\n");
  EXPECT_EQ(ServiceErrors(R"("umask": "028")"),
            "umask: is \"028\" (expected a string of octal digits, such as \"022\" or \"0660\", at most \"0777\")");
  EXPECT_NE(ServiceErrors(R"("umask": "07777")"), "");
  EXPECT_NE(ServiceErrors(R"("umask": "")"), "");
  EXPECT_NE(Errors(R"({"global": {"socket_mode": "rw-rw----"}})"), "");
}

TEST(ConfigErrors, KeysOfOtherSupervisorsAndOfOtherPlaces) {
  EXPECT_EQ(ServiceErrors(R"("cwd": "/", "autostart": true, "env": {}, "stopsignal": "TERM", "max_memory_mb": 1)"),
            "cwd: unknown key (did you mean \"working_directory\"?)\n"
            "autostart: unknown key (did you mean \"enabled\"?)\n"
            "env: unknown key (did you mean \"environment\"?)\n"
            "stopsignal: unknown key (did you mean \"graceful_shutdown.signal\"?)\n"
            "max_memory_mb: unknown key (did you mean \"resource_limits.max_memory_mb\"?)");
  EXPECT_EQ(ServiceErrors(R"("hooks": {"before": {}})"),
            "hooks.before: unknown key (expected \"pre_start\", \"post_start\", \"pre_stop\" or \"post_stop\")");
  EXPECT_EQ(ServiceErrors(R"("Port": 1)"), "Port: unknown key (did you mean \"port\"?)");
}

TEST(ConfigErrors, Commands) {
  EXPECT_EQ(ServiceErrors(R"("hooks": {"pre_start": {"command": "python3 app.py"}})"),
            "hooks.pre_start.command: holds a space, but no shell splits it (expected the program alone, \"python3\", "
            "and the "
            "rest in \"args\")");
  EXPECT_EQ(ServiceErrors(R"("hooks": {"pre_start": {"command": "sh /x/y"}})").substr(0, 36),
            "hooks.pre_start.command: holds a spa");
  EXPECT_EQ(ServiceErrors(R"("hooks": {"pre_start": {"command": "/opt/My App/run"}})"), "");
  EXPECT_EQ(ServiceErrors(R"("hooks": {"pre_start": {"command": "~/run"}})"),
            "hooks.pre_start.command: begins with \"~\", which only a shell replaces (expected an absolute path, or "
            "${HOME}/...)");
  EXPECT_EQ(ServiceErrors(R"("graceful_shutdown": {"args": ["x"]})"),
            "graceful_shutdown.args: is given without a command (expected \"command\" beside it)");
  EXPECT_EQ(ServiceErrors(R"("description": "a\u0000b")"),
            "description: holds a NUL character (\\u0000), which would end the string for every program (remove it)");
}

TEST(ConfigErrors, Environment) {
  EXPECT_EQ(ServiceErrors(R"("environment": {"": "x", "A=B": "x", "N\u0000": "x", "${A}": "x"})"),
            "environment[\"\"]: an environment variable without a name\n"
            "environment[\"A=B\"]: a name of an environment variable cannot hold \"=\" (expected \"NAME\": \"value\")\n"
            "environment[\"N\\x00\"]: a name of an environment variable cannot hold a NUL character\n"
            "environment[\"${A}\"]: variables are replaced in values only, not in names");
}

TEST(ConfigErrors, GroupsAndDependencies) {
  EXPECT_EQ(
      ServiceErrors(R"("groups": ["a", "@b", "a"])"),
      "groups[1]: \"@b\" is no group name (expected 1 to 64 of A-Z a-z 0-9 _ . -, a letter or digit first; the @ of "
      "\"@backend\" is written only on the command line)\n"
      "groups[2]: \"a\" is listed twice");
  EXPECT_EQ(ServiceErrors(R"("depends_on": ["@backend", "web:0", "nothing-like-it"])"),
            "depends_on[0]: is \"@backend\", but depends_on takes services, not groups (expected a service id)\n"
            "depends_on[1]: is \"web:0\", but depends_on takes services, not instances (did you mean \"web\"?)\n"
            "depends_on[2]: is \"nothing-like-it\", but there is no such service (expected the id of a service)");
}

TEST(ConfigErrors, DependenciesWithAConditionAreChecked) {
  EXPECT_EQ(ServiceErrors(R"("depends_on": [{"service": "nope", "condition": "completed"}, {"condition": "ready"},
      {"service": "web", "condition": "finished"}, 5, {"service": 7}, {"service": "nope", "if": 1}])"),
            "depends_on[0].service: is \"nope\", but there is no such service (expected the id of a service)\n"
            "depends_on[1].service: is missing (expected the id of a service)\n"
            "depends_on[2].service: the service depends on itself (expected another service)\n"
            "depends_on[2].condition: is \"finished\" (expected \"ready\" or \"completed\")\n"
            "depends_on[3]: is a number (expected one of service ids and {\"service\": \"ID\", \"condition\": "
            "\"completed\"})\n"
            "depends_on[4].service: is a number (expected a string: put it into quotes)\n"
            "depends_on[5].service: \"nope\" is listed twice\n"
            "depends_on[5].if: unknown key (expected \"service\" or \"condition\")");
  EXPECT_EQ(ServiceErrors(R"("depends_on": "db")"),
            "depends_on: is a string (expected a list of service ids and {\"service\": \"ID\", \"condition\": "
            "\"completed\"}: put it into brackets, [...])");
}

TEST(ConfigErrors, CircularDependencies) {
  EXPECT_EQ(
      Errors(R"({"services": {
 "c": {"command": "x", "depends_on": ["a"]},
 "b": {"command": "x", "depends_on": ["d", "c"]},
 "a": {"command": "x", "depends_on": ["b"]},
 "d": {"command": "x"},
 "x": {"command": "x", "depends_on": ["y", "a"]},
 "y": {"command": "x", "depends_on": ["x"]}}})"),
      "4:39: services.a.depends_on[0]: circular dependency a -> b -> c -> a (none of them could start first: remove "
      "one)\n"
      "6:39: services.x.depends_on[0]: circular dependency x -> y -> x (none of them could start first: remove one)\n");
}

TEST(ConfigErrors, ALongCircleIsFoundAndShortened) {
  std::string text = R"({"services": {)";
  for (int i = 0; i < 5000; ++i) {
    text += "\"s" + std::to_string(10000 + i) + R"(": {"command": "x", "depends_on": ["s)" +
            std::to_string(10000 + (i + 1) % 5000) + "\"]},\n";
  }
  const std::string errors = Errors(text + R"("z": {"command": "x"}}})");
  EXPECT_TRUE(errors.starts_with("1:57: services.s10000.depends_on[0]: circular dependency s10000 -> s10001 -> "))
      << errors;
  EXPECT_TRUE(errors.ends_with("-> s10019 -> (4980 more) -> s10000 (none of them could start first: remove one)\n"))
      << errors;
}

TEST(ConfigErrors, HealthChecks) {
  EXPECT_EQ(ServiceErrors(R"("health_check": {})"),
            "health_check.url: is missing (expected the address to ask, such as \"http://127.0.0.1:8080/health\")");
  EXPECT_EQ(
      ServiceErrors(R"("health_check": {"port": 8080})"),
      "health_check.url: is missing (expected the address to ask, such as \"http://127.0.0.1:8080/health\"; did you "
      "mean \"type\": \"tcp\"?)");
  EXPECT_EQ(ServiceErrors(R"("health_check": {"url": ""})"),
            "health_check.url: is empty (expected the address to ask, such as \"http://127.0.0.1:8080/health\")");
  EXPECT_EQ(ServiceErrors(R"("health_check": {"type": "htp"})"),
            "health_check.type: is \"htp\" (did you mean \"http\"? expected \"http\", \"tcp\", \"process\", "
            "\"script\" or \"grpc\")");
  EXPECT_EQ(ServiceErrors(R"("health_check": {"type": "tcp"})"),
            "health_check.port: is missing (expected the port to connect to, from 1 to 65535)");
  EXPECT_EQ(ServiceErrors(R"("health_check": {"type": "grpc", "port": 0})"),
            "health_check.port: is empty (expected the port to connect to, from 1 to 65535)");
  EXPECT_EQ(ServiceErrors(R"("health_check": {"type": "script"})"),
            "health_check.command: is missing (expected the program to run, which exits with 0 when healthy)");
  EXPECT_EQ(ServiceErrors(R"("health_check": {"type": "process", "timeout": 0, "retries": 0})"),
            "health_check.timeout: is 0 (expected seconds from 0.001 to 315360000)\n"
            "health_check.retries: is 0 (expected a whole number from 1 to 1000000)");
  EXPECT_EQ(
      ServiceErrors(
          R"("health_check": {"type": "process", "expected_status": [200, 99, 600, 200], "expected_regex": "a("})"),
      "health_check.expected_status[1]: is 99 (expected a whole number from 100 to 599, or a range such as \"2xx\")\n"
      "health_check.expected_status[2]: is 600 (expected a whole number from 100 to 599, or a range such as \"2xx\")\n"
      "health_check.expected_status[3]: 200 is listed twice\n"
      "health_check.expected_regex: is no valid regular expression: missing ): a( (expected RE2 syntax; a backslash is "
      "written \\\\ in JSON)");
  EXPECT_EQ(ServiceErrors(R"("health_check": {"url": "http://h/", "expected_status": []})"),
            "health_check.expected_status: is empty, so no answer could be right (expected at least one status, such "
            "as [200])");
  constexpr const char* kStatus = " (expected a whole number from 100 to 599, or a range such as \"2xx\")\n";
  EXPECT_EQ(ServiceErrors(R"("health_check": {"url": "http://h/", "expected_status":
      ["6xx", "2x", "200", "299-200", "2xx", "2XX", true, "${NOT_SET:-3xx}", 200.5]})") +
                "\n",
            std::string("health_check.expected_status[0]: is the string \"6xx\"") + kStatus +
                "health_check.expected_status[1]: is the string \"2x\"" + kStatus +
                "health_check.expected_status[2]: is the string \"200\"" + kStatus +
                "health_check.expected_status[3]: is the string \"299-200\"" + kStatus +
                "health_check.expected_status[5]: 2xx is listed twice\n" + "health_check.expected_status[6]: is true" +
                kStatus + "health_check.expected_status[8]: is 200.5" + kStatus);
  EXPECT_EQ(ServiceErrors(R"("health_check": {"url": "http://h/", "expected_status": "2xx"})"),
            "health_check.expected_status: is the string \"2xx\" (expected a list, such as [200] or [\"2xx\", 401])");
  EXPECT_EQ(ServiceErrors(R"("health_check": {"url": "https://h/", "tls_server_name": "https://a:1"})"),
            "health_check.tls_server_name: is no host (expected a bare host name or address, such as \"127.0.0.1\" or "
            "\"::1\")");
  EXPECT_EQ(ServiceErrors(R"("health_check": {"type": "script", "command": "x", "environment": "servcie"})"),
            "health_check.environment: is \"servcie\" (did you mean \"service\"? expected \"minimal\" or \"service\")");
  EXPECT_EQ(ServiceErrors(R"("health_check": {"url": "http://h/", "method": "HEAD", "expected_content": "x"})"),
            "health_check.method: is \"HEAD\", whose answers have no content to compare (expected \"GET\")");
  EXPECT_EQ(ServiceErrors(R"("health_check": {"type": "tcp", "port": 1, "host": "localhost:80"})"),
            "health_check.host: holds a port (expected the host alone; the port is the key \"port\")");
  EXPECT_EQ(ServiceErrors(R"("health_check": {"url": "http://h/", "headers": {"A B": "x", "C": "x\r\ny"}})"),
            "health_check.headers[\"A B\"]: \"A B\" is no header name (expected one such as \"Authorization\", without "
            "colon or space)\n"
            "health_check.headers.C: holds a line break (a header is one line)");
  EXPECT_EQ(
      ServiceErrors(R"("readiness": {"type": "health_check"})"),
      "readiness.type: is \"health_check\", but this service has no health check (expected a \"health_check\" beside "
      "\"readiness\")");
}

TEST(ConfigErrors, Urls) {
  const auto url = [](const std::string& value) {
    return ServiceErrors(R"("health_check": {"url": ")" + value + "\"}");
  };
  EXPECT_EQ(url("localhost:8080/health"), "health_check.url: is no URL (expected http://... or https://...)");
  EXPECT_EQ(url("ftp://user:canary@h/"),
            "health_check.url: has the scheme \"ftp\" (expected http://... or https://...)");
  EXPECT_EQ(url("http:///health"), "health_check.url: names no host (expected one as in http://127.0.0.1:8080/health)");
  EXPECT_EQ(url("http://h:99999/"),
            "health_check.url: has a wrong port (expected a number from 1 to 65535 after the host, as in "
            "http://127.0.0.1:8080/health)");
  EXPECT_EQ(url("http://h/a b"), "health_check.url: holds a space or control character (write a space as %20)");
  EXPECT_EQ(url("http://[::1/"),
            "health_check.url: has a \"[\" without \"]\" (expected an IPv6 address as in http://[::1]:8080/)");
  for (const char* right : {"HTTP://h", "https://u:p@h:1/x?y#z", "http://[::1]:80/", "http://h:${INSTANCE}1/"}) {
    EXPECT_EQ(url(right), "");
  }
}

TEST(ConfigErrors, Notifications) {
  EXPECT_EQ(
      Errors(R"({"notifications": {"channels": [{}, {"type": "slack", "url": ""}, {"type": "email", "to": []},
 {"type": "command", "command": ""}, {"type": "webhok"}, 3, {"type": "email", "smtp_url": "mail:25", "from": "A a@b", "to": ["a@b", "a@b"]}]}})"),
      "1:33: notifications.channels[0].type: is missing (expected \"webhook\", \"slack\", \"email\" or \"command\")\n"
      "1:62: notifications.channels[1].url: is empty (expected https://... or http://...)\n"
      "1:67: notifications.channels[2].smtp_url: is missing (expected smtp://... or smtps://...)\n"
      "1:67: notifications.channels[2].from: is missing (expected the sender's mail address)\n"
      "1:91: notifications.channels[2].to: is empty (expected at least one mail address)\n"
      "2:33: notifications.channels[3].command: is empty (expected the program to run)\n"
      "2:47: notifications.channels[4].type: is \"webhok\" (did you mean \"webhook\"? expected \"webhook\", \"slack\", "
      "\"email\" or \"command\")\n"
      "2:58: notifications.channels[5]: is a number (expected an object: {...})\n"
      "2:91: notifications.channels[6].smtp_url: is no URL (expected smtp://... or smtps://...)\n"
      "2:110: notifications.channels[6].from: is no mail address (expected one such as \"ops@example.com\" or "
      "\"Operations <ops@example.com>\")\n"
      "2:133: notifications.channels[6].to[1]: \"a@b\" is listed twice\n");
}

TEST(ConfigErrors, MailChannels) {
  const std::string told = Errors(R"({"notifications": {"repeat_interval": -1, "channels": [{"type": "email",
    "smtp_url": "smtp://user:canary-1@mail", "from": "a@b", "to": ["A <c@d>", "x@y, z@w", "Name <x@y", "a\nBcc: q@r"],
    "password": "canary-2", "helo": "two words", "user": "canary-3", "verify_tls": "canary-4"}]}})");
  for (const char* part :
       {"repeat_interval: is -1", "channels[0].to[1]: is no mail address", "channels[0].to[2]: is no mail address",
        "channels[0].to[3]: holds a control character", "channels[0].password: stands alone (expected \"username\"",
        "channels[0].helo: is no host name", "channels[0].user: unknown key (did you mean \"username\"?)",
        "channels[0].verify_tls: is"}) {
    EXPECT_THAT(told, ::testing::HasSubstr(part));
  }
  EXPECT_THAT(told, ::testing::Not(::testing::HasSubstr("to[0]")));
  EXPECT_EQ(Errors(R"({"notifications": {"repeat_interval": 0.05}})"),
            "1:39: notifications.repeat_interval: is too short (expected 0 for never, or at least 0.1 seconds)\n");
  EXPECT_EQ(Errors(R"({"notifications": {"repeat_interval": 0.1}})"), "");
  for (const char* secret : {"canary-1", "canary-2", "canary-3"}) {
    EXPECT_THAT(told, ::testing::Not(::testing::HasSubstr(secret)));
  }
}

TEST(ConfigErrors, Global) {
  EXPECT_EQ(Errors(R"({"global": {"log_directory": "", "pid_directory": "~/p", "include": "conf.d", "socket": "/)" +
                   std::string(107, 'x') + R"("}})"),
            "1:30: global.log_directory: is empty (expected a directory)\n"
            "1:51: global.pid_directory: begins with \"~\", which only a shell replaces (expected an absolute path, or "
            "${HOME}/...)\n"
            "1:69: global.include: is a string (expected a list of strings: put it into brackets, [\"...\"])\n"
            "1:89: global.socket: is a path of 108 bytes: \"/" +
                std::string(79, 'x') + "...\" (expected at most 107, the kernel's limit for sockets)\n");
}

TEST(ConfigErrors, VariablesPointIntoTheString) {
  EXPECT_EQ(Errors(R"({"services": {"a": {"command": "x", "args": ["\u20ac\n${NONE} ${1}"]}}})"),
            "1:55: services.a.args[0]: ${NONE} is not set in the daemon's environment (set it, or give a default: "
            "${NONE:-text})\n"
            "1:63: services.a.args[0]: \"${1}\" is no variable (expected ${NAME} or ${NAME:-default}, NAME of letters, "
            "digits "
            "and _; a literal ${ is written $${)\n");
}

TEST(ConfigErrors, NeverTellWhatAVariableHeld) {
  const std::string errors =
      Errors(R"({"global": {"log_level": "${SECRET}", "socket_mode": "${SECRET}"}, "services": {"a":
    {"command": "x", "umask": "${SECRET}", "restart_policy": {"mode": "${SECRET}"}, "graceful_shutdown": {"signal": "${SECRET}"},
     "health_check": {"url": "${SECRET}", "host": "${SECRET}/"}}}})",
             {{"SECRET", "canary"}});
  EXPECT_EQ(errors.find("canary"), std::string::npos) << errors;
  EXPECT_NE(errors.find("global.log_level: is \"${SECRET}\", whose value does not fit (expected "), std::string::npos)
      << errors;
}

TEST(ConfigErrors, ServicesWhoseFilesWouldBeTheSame) {
  EXPECT_EQ(
      Errors(
          R"({"global": {"log_directory": "/l", "log_file": "/l/d.log", "pid_directory": "/r", "socket": "/r/p.sock"},
"services": {"d": {"command": "x"}, "p": {"command": "x"}, "w": {"command": "x", "logs": {"stderr": "separate"}},
 "w.err": {"command": "x"}}})"),
      "2:14: services.d: its log would be the daemon's own, /l/d.log (expected another id, or another "
      "global.log_file)\n"
      "2:37: services.p: its pid file would be the daemon's own, /r/p.pid (expected another id, or another "
      "global.pid_directory)\n"
      "3:2: services.w.err: its log would be w.err.log, which is the stderr of \"w\" (expected another id)\n");
}

TEST(ConfigErrors, AreBoundedInNumber) {
  std::string text = "{";
  for (int i = 0; i < 6000; ++i) {
    text += "\"k" + std::to_string(i) + "\": 1,\n";
  }
  const ConfigFiles files;
  const std::vector<ConfigError> errors = files.Load(text + "\"z\": 1}").errors;
  ASSERT_EQ(errors.size(), 5001U);
  EXPECT_EQ(errors.back().ToString(), files.main_file() + ": 1001 more errors are not listed (correct these first)");
}

}  // namespace
}  // namespace supervisor
