#include "ctl/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "ctl/command_table.h"

namespace supervisor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kNowMs = 1795418895000;

std::variant<Invocation, EarlyExit> Parse(const std::vector<std::string>& arguments) {
  return ParseCommandLine(arguments, absl::FromUnixMillis(kNowMs));
}

Invocation Good(const std::vector<std::string>& arguments) {
  auto parsed = Parse(arguments);
  if (const auto* early = std::get_if<EarlyExit>(&parsed)) {
    ADD_FAILURE() << early->text;
    return {};
  }
  return std::get<Invocation>(parsed);
}

EarlyExit Early(const std::vector<std::string>& arguments) {
  auto parsed = Parse(arguments);
  if (std::holds_alternative<Invocation>(parsed)) {
    ADD_FAILURE() << "was accepted: " << testing::PrintToString(arguments);
    return {};
  }
  return std::get<EarlyExit>(parsed);
}

std::string UsageErrorOf(const std::vector<std::string>& arguments) {
  const EarlyExit early = Early(arguments);
  EXPECT_EQ(early.exit_code, ExitCode::kUsage);
  EXPECT_TRUE(early.to_stderr);
  EXPECT_THAT(early.text, HasSubstr("\nSee: supervisorctl "));
  return early.text;
}

TEST(CommandLineTest, GlobalOptionsStandAnywhere) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--socket", "/s", "--json", "--no-color", "status", "web"},
        {"status", "web", "--socket", "/s", "--json", "--no-color"},
        {"--json", "status", "--socket=/s", "web", "--no-color"}}) {
    const Invocation invocation = Good(arguments);
    EXPECT_EQ(invocation.command, Command::kStatus);
    EXPECT_EQ(invocation.socket, "/s");
    EXPECT_FALSE(invocation.socket_is_default);
    EXPECT_TRUE(invocation.json);
    EXPECT_TRUE(invocation.no_color);
    EXPECT_THAT(invocation.targets, ElementsAre("web"));
  }
}

TEST(CommandLineTest, TakesActionsOptions) {
  const Invocation invocation =
      Good({"restart", "web", "--timeout", "0.5", "worker:0", "--no-wait", "--reason", "a reason"});
  EXPECT_EQ(invocation.command, Command::kRestart);
  EXPECT_THAT(invocation.targets, ElementsAre("web", "worker:0"));
  EXPECT_EQ(invocation.timeout_seconds, 0.5);
  EXPECT_TRUE(invocation.no_wait);
  EXPECT_EQ(invocation.reason, "a reason");
}

TEST(CommandLineTest, TakesLogsOptions) {
  Invocation invocation = Good({"logs", "web", "-fn", "5", "--since", "10m", "--grep", "[a-z]", "--stderr"});
  EXPECT_TRUE(invocation.follow);
  EXPECT_EQ(invocation.count, 5U);
  EXPECT_EQ(invocation.since_unix_ms, kNowMs - 600000);
  EXPECT_EQ(invocation.grep, "[a-z]");
  EXPECT_TRUE(invocation.stderr_log);
  invocation = Good({"logs", "-n", "0", "web", "--until", "2026-11-23 00:00:00"});
  EXPECT_EQ(invocation.count, 0U);
  EXPECT_EQ(invocation.until_unix_ms, 1795392000000);
  EXPECT_FALSE(invocation.raw);
  EXPECT_TRUE(Good({"logs", "web", "--raw"}).raw);
  EXPECT_EQ(Good({"logs", "web", "-n", "all"}).count, static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
}

TEST(CommandLineTest, KeepsGlobsAsTheyAre) {
  EXPECT_THAT(Good({"status", "[a-c]", "[a,b]", "web*", "[x]y"}).targets,
              ElementsAre("[a-c]", "[a,b]", "web*", "[x]y"));
  EXPECT_EQ(Good({"stop", "web", "--reason", "[because]"}).reason, "[because]");
}

TEST(CommandLineTest, TakesASignalFirst) {
  const Invocation invocation = Good({"signal", "HUP", "web", "db"});
  EXPECT_EQ(invocation.signal, "HUP");
  EXPECT_THAT(invocation.targets, ElementsAre("web", "db"));
}

TEST(CommandLineTest, TakesASignalAsKillDoes) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"signal", "-9", "web"},
                                                    {"signal", "-KILL", "web"},
                                                    {"signal", "-SIGKILL", "web"},
                                                    {"signal", "-s", "KILL", "web"},
                                                    {"signal", "--signal", "9", "web"},
                                                    {"signal", "--reason", "-9", "-9", "web"}}) {
    const Invocation invocation = Good(arguments);
    EXPECT_THAT(invocation.signal, testing::AnyOf("9", "KILL", "SIGKILL"));
    EXPECT_THAT(invocation.targets, ElementsAre("web"));
  }
  EXPECT_THAT(UsageErrorOf({"signal", "-x", "web"}), HasSubstr("unknown option \"-x\""));
  EXPECT_THAT(UsageErrorOf({"signal", "-9"}), HasSubstr("TARGET is missing"));
}

TEST(CommandLineTest, TakesANumberOfLinesAsTailDoes) {
  EXPECT_EQ(Good({"logs", "web", "-5"}).count, 5U);
  EXPECT_EQ(Good({"logs", "-20", "web", "-f"}).count, 20U);
  EXPECT_EQ(Good({"events", "-3"}).count, 3U);
  EXPECT_EQ(Good({"logs", "web", "-n5"}).count, 5U);
  // The value of an option, whatever it looks like.
  EXPECT_EQ(Good({"logs", "web", "--grep", "-5"}).grep, "-5");
  EXPECT_EQ(Good({"logs", "web", "--since", "-1h"}).since_unix_ms, kNowMs - 3600000);
  EXPECT_THAT(UsageErrorOf({"logs", "web", "-5x"}), HasSubstr("\"-5x\""));
  EXPECT_THAT(UsageErrorOf({"status", "-5"}), HasSubstr("unknown option \"-5\""));
}

TEST(CommandLineTest, SaysWhatToTypeInsteadOfOtherProgramsOptions) {
  EXPECT_THAT(UsageErrorOf({"-c", "/etc/s.json", "status"}), HasSubstr("--socket PATH"));
  EXPECT_THAT(UsageErrorOf({"--configuration=/etc/s.conf", "status"}), HasSubstr("--socket PATH"));
  EXPECT_THAT(UsageErrorOf({"-s", "unix:///run/s.sock", "status"}), HasSubstr("--socket PATH"));
  EXPECT_THAT(UsageErrorOf({"-u", "admin", "-p", "x", "status"}), HasSubstr("no password is needed"));
  EXPECT_THAT(UsageErrorOf({"-i"}), HasSubstr("supervisorctl top"));
  EXPECT_THAT(UsageErrorOf({"restart", "web,db"}), HasSubstr("separate targets by blanks: web db"));
}

TEST(CommandLineTest, TakesTypesOfEvents) {
  EXPECT_THAT(Good({"events", "--type", "started", "--type=failed", "web"}).types, ElementsAre("started", "failed"));
  EXPECT_THAT(Good({"events", "--type", "started,oom_killed"}).types, ElementsAre("started", "oom_killed"));
  EXPECT_THAT(Good({"events", "--type", "note", "web"}).targets, ElementsAre("web"));
  EXPECT_THAT(UsageErrorOf({"events", "--type", "strated"}), HasSubstr("did you mean \"started\""));
  EXPECT_THAT(UsageErrorOf({"events", "--type", "a,"}), HasSubstr("--type \"a\""));
  EXPECT_THAT(UsageErrorOf({"events", "--type="}), HasSubstr("--type"));
  EXPECT_THAT(UsageErrorOf({"logs", "web", "--type", "started"}), HasSubstr("unknown option \"--type\""));
}

TEST(CommandLineTest, WhatIsWrongIsSaidInJsonWhereThatWasAskedFor) {
  EXPECT_TRUE(Early({"--json", "bogus"}).json);
  EXPECT_TRUE(Early({"stop", "--json"}).json);
  EXPECT_FALSE(Early({"bogus"}).json);
}

TEST(CommandLineTest, TheLastOfRepeatedOptionsCounts) {
  EXPECT_EQ(Good({"--socket", "/a", "status", "--socket", "/b"}).socket, "/b");
}

TEST(CommandLineTest, RefusesUnknownCommandsAndNamesNearOnes) {
  EXPECT_THAT(UsageErrorOf({"statsu"}), HasSubstr("unknown command \"statsu\" (did you mean \"status\"?)"));
  EXPECT_THAT(UsageErrorOf({"--json", "relod"}), HasSubstr("\"reload\""));
  EXPECT_THAT(UsageErrorOf({"bottom"}), HasSubstr("unknown command \"bottom\""));
  EXPECT_THAT(UsageErrorOf({"frobnicate", "--help"}), HasSubstr("unknown command"));
  EXPECT_THAT(UsageErrorOf({""}), HasSubstr("unknown command"));
  EXPECT_THAT(UsageErrorOf({}), HasSubstr("a command is missing"));
  EXPECT_THAT(UsageErrorOf({"--json"}), HasSubstr("a command is missing"));
}

TEST(CommandLineTest, RefusesWrongOptions) {
  EXPECT_THAT(UsageErrorOf({"status", "--jso"}), HasSubstr("did you mean \"--json\""));
  EXPECT_THAT(UsageErrorOf({"status", "--timeout", "5"}), HasSubstr("unknown option \"--timeout\""));
  EXPECT_THAT(UsageErrorOf({"start", "web", "--tiemout", "5"}), HasSubstr("did you mean \"--timeout\""));
  EXPECT_THAT(UsageErrorOf({"--bogus"}), HasSubstr("unknown option \"--bogus\""));
  EXPECT_THAT(UsageErrorOf({"summary", "web"}), HasSubstr("unexpected argument \"web\""));
  UsageErrorOf({"status", "--json=maybe"});
}

TEST(CommandLineTest, RefusesMissingAndEmptyValues) {
  EXPECT_THAT(UsageErrorOf({"logs", "web", "-n"}), HasSubstr("needs a value"));
  EXPECT_THAT(UsageErrorOf({"status", "--socket"}), HasSubstr("needs a value"));
  EXPECT_THAT(UsageErrorOf({"--socket"}), HasSubstr("needs a value"));
  // "--socket $UNSET" must not reach for the system's daemon.
  EXPECT_THAT(UsageErrorOf({"--socket", "", "status"}), HasSubstr("needs a value"));
  EXPECT_THAT(UsageErrorOf({"stop", "web", "--timeout="}), HasSubstr("--timeout"));
  EXPECT_THAT(UsageErrorOf({"stop", ""}), HasSubstr("TARGET is empty"));
}

TEST(CommandLineTest, RefusesWrongValues) {
  for (const std::string value : {"x", "-1", "nan", "inf", "1e400", "5s", "1,5"}) {
    EXPECT_THAT(UsageErrorOf({"stop", "web", "--timeout=" + value}), HasSubstr("--timeout"));
  }
  for (const std::string value : {"x", "-1", "1.5", "99999999999999999999", "ALL"}) {
    EXPECT_THAT(UsageErrorOf({"logs", "web", "--lines=" + value}), HasSubstr("-n \""));
  }
  EXPECT_THAT(UsageErrorOf({"logs", "web", "--since", "soon"}), HasSubstr("--since \"soon\": not a time"));
  EXPECT_THAT(UsageErrorOf({"logs", "web", "--until", "later"}), HasSubstr("--until"));
  EXPECT_THAT(UsageErrorOf({"logs", "web", "--since", "1m", "--until", "2m"}), HasSubstr("later than"));
  EXPECT_THAT(UsageErrorOf({"logs", "web", "-f", "--until", "1m"}), HasSubstr("--until"));
  EXPECT_THAT(UsageErrorOf({"signal", "FOO", "web"}), HasSubstr("\"FOO\" is no signal"));
  EXPECT_THAT(UsageErrorOf({"stop", "web\xFF"}), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(UsageErrorOf({"stop", "[x]\xFF"}), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(UsageErrorOf({"stop", "web", "--reason", "\xC3"}), HasSubstr("not valid UTF-8"));
}

TEST(CommandLineTest, WhatActsNeedsATarget) {
  for (const std::string command : {"start", "stop", "restart", "logs", "explain", "metrics", "signal"}) {
    EXPECT_THAT(UsageErrorOf({command}), HasSubstr("TARGET"));
  }
  EXPECT_THAT(UsageErrorOf({"signal", "HUP"}), HasSubstr("TARGET is missing"));
  EXPECT_THAT(UsageErrorOf({"explain", "a", "b"}), HasSubstr("exactly one TARGET"));
}

TEST(CommandLineTest, HelpAndVersionAreNoErrors) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--help"}, {"-h"}, {"help"}, {"--json", "--help"}}) {
    const EarlyExit early = Early(arguments);
    EXPECT_EQ(early.exit_code, ExitCode::kDone);
    EXPECT_FALSE(early.to_stderr);
    EXPECT_THAT(early.text, HasSubstr("Commands:"));
  }
  EXPECT_THAT(Early({"--version"}).text, testing::StartsWith("supervisorctl "));
  EXPECT_THAT(Early({"status", "--version"}).text, testing::StartsWith("supervisorctl "));
}

TEST(CommandLineTest, EveryCommandHasHelpWithAnExample) {
  for (const std::string& name : CommandNames()) {
    if (name == "check") {
      continue;  // supervisord's: see below
    }
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{name, "--help"}, {"--help", name}, {"help", name}, {name, "-h", "--json"}}) {
      const EarlyExit early = Early(arguments);
      EXPECT_EQ(early.exit_code, ExitCode::kDone);
      EXPECT_THAT(early.text, HasSubstr("Usage: supervisorctl " + name + " [OPTIONS]"));
      EXPECT_THAT(early.text, HasSubstr("Examples:\n  supervisorctl " + name));
      EXPECT_THAT(early.text, testing::EndsWith("\n"));
      EXPECT_THAT(early.text, testing::Not(HasSubstr("\n\n\n")));
    }
  }
}

TEST(CommandLineTest, CheckIsHandedOnUnread) {
  const Invocation check = Good({"--json", "check", "script", "--timeout", "2", "./check.sh", "--socket", "[a]"});
  EXPECT_EQ(check.command, Command::kCheck);
  EXPECT_TRUE(check.json);
  EXPECT_EQ(check.arguments, (std::vector<std::string>{"script", "--timeout", "2", "./check.sh", "--socket", "[a]"}));
  EXPECT_EQ(Good({"check", "--help"}).arguments, std::vector<std::string>{"--help"});
  EXPECT_EQ(Good({"help", "check"}).arguments, std::vector<std::string>{"--help"});
  EXPECT_EQ(Good({"--help", "check"}).arguments, std::vector<std::string>{"--help"});
  EXPECT_THAT(UsageErrorOf({"--jason", "check", "http"}), HasSubstr("--json"));
}

TEST(CommandLineTest, FindsTheSocket) {
  setenv("SUPERVISOR_SOCKET", "/from/environment.sock", 1);
  EXPECT_EQ(Good({"status"}).socket, "/from/environment.sock");
  EXPECT_EQ(Good({"status", "--socket", "/given.sock"}).socket, "/given.sock");
  setenv("SUPERVISOR_SOCKET", "", 1);
  EXPECT_TRUE(Good({"status"}).socket_is_default);
  unsetenv("SUPERVISOR_SOCKET");
  EXPECT_TRUE(Good({"status"}).socket_is_default);
  EXPECT_THAT(Good({"status"}).socket, testing::EndsWith("supervisord.sock"));
}

}  // namespace
}  // namespace supervisor
