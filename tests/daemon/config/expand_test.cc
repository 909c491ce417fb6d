#include "daemon/config/expand.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/config/interpolate.h"

namespace supervisor {
namespace {

constexpr std::pair<std::string_view, std::string_view> kVariables[] = {{"A", "1"},
                                                                        {"EMPTY", ""},
                                                                        {"DOLLAR", "$"},
                                                                        {"TWO", "$$"},
                                                                        {"OPEN", "${"},
                                                                        {"EVIL", "${INSTANCE}"},
                                                                        {"ESCAPED", "$${INSTANCE}"},
                                                                        {"BAD", "\xff"},
                                                                        {"_x9", "under"}};

std::optional<std::string> Lookup(const std::string& name) {
  for (const auto& [variable, value] : kVariables) {
    if (variable == name) {
      return std::string(value);
    }
  }
  return std::nullopt;
}

// What a service's string becomes for instance 7.
std::string InService(const std::string& text) {
  const Interpolated result = Interpolate(text, Lookup, InstanceRule::kKeep);
  return result.problems.empty() ? ReplaceInstance(result.text, 7) : "error: " + result.problems[0].message;
}

std::string Elsewhere(const std::string& text) {
  const Interpolated result = Interpolate(text, Lookup, InstanceRule::kRefuse);
  return result.problems.empty() ? result.text : "error: " + result.problems[0].message;
}

TEST(Interpolate, ReplacesVariables) {
  for (const auto& expand : {InService, Elsewhere}) {
    EXPECT_EQ(expand("a${A}b${A}"), "a1b1");
    EXPECT_EQ(expand("${_x9}"), "under");
    EXPECT_EQ(expand("[${EMPTY}]"), "[]");
    EXPECT_EQ(expand("${NONE:-x y}"), "x y");
    EXPECT_EQ(expand("${NONE:-}"), "");
    EXPECT_EQ(expand("${NONE:-a:-b}"), "a:-b");
    EXPECT_EQ(expand("${A:-x}"), "1");
    EXPECT_EQ(expand("${EMPTY:-x}"), "x");
  }
}

TEST(Interpolate, NoOtherDollarIsSpecial) {
  for (const auto& expand : {InService, Elsewhere}) {
    for (const char* text : {"$", "$$", "$A", "a$", "$(x)", "{A}", "$ {A}", "$1", "}", "$$$"}) {
      EXPECT_EQ(expand(text), text);
    }
    EXPECT_EQ(expand("$${A}"), "${A}");
    EXPECT_EQ(expand("$$${A}"), "$${A}");
    EXPECT_EQ(expand("$${"), "${");
    EXPECT_EQ(expand("$${${A}"), "${1");
  }
}

TEST(Interpolate, InstanceIsReplacedLaterAndOnlyWhereItWasWritten) {
  EXPECT_EQ(InService("port-${INSTANCE}"), "port-7");
  EXPECT_EQ(InService("${INSTANCE}${INSTANCE}"), "77");
  EXPECT_EQ(InService("${INSTANCE:-x}"), "7");
  EXPECT_EQ(InService("$${INSTANCE}"), "${INSTANCE}");
  EXPECT_EQ(InService("$$${INSTANCE}"), "$${INSTANCE}");
  // What comes from the environment is text, whatever it looks like and whatever stands beside it.
  EXPECT_EQ(InService("${EVIL}"), "${INSTANCE}");
  EXPECT_EQ(InService("${ESCAPED}"), "$${INSTANCE}");
  EXPECT_EQ(InService("${DOLLAR}{INSTANCE}"), "${INSTANCE}");
  EXPECT_EQ(InService("${OPEN}INSTANCE}"), "${INSTANCE}");
  EXPECT_EQ(InService("${DOLLAR}${INSTANCE}"), "$7");
  EXPECT_EQ(InService("${TWO}${INSTANCE}x"), "$$7x");
  EXPECT_EQ(InService("a${TWO}${DOLLAR}${INSTANCE}{"), "a$$$7{");
  EXPECT_EQ(InService("${INSTANCE}${DOLLAR}${INSTANCE}"), "7$7");
}

TEST(Interpolate, InstanceFormSurvivesEveryText) {
  for (const char* text :
       {"", "$", "$$", "${", "$${", "${INSTANCE}", "$${INSTANCE}", "${$INSTANCE}", "$$$${", "${${", "}${"}) {
    EXPECT_EQ(ReplaceInstance(KeepLiteral(text), 3), text);
  }
}

TEST(Interpolate, SaysWhatIsWrong) {
  EXPECT_EQ(Elsewhere("${NONE}"),
            "error: ${NONE} is not set in the daemon's environment (set it, or give a default: ${NONE:-text})");
  EXPECT_EQ(Elsewhere("${INSTANCE}"), "error: ${INSTANCE} has a value only in a service (expected another variable)");
  EXPECT_EQ(InService("${A"), "error: \"${\" without a closing \"}\" (expected ${NAME}; a literal ${ is written $${)");
  const std::string form =
      " is no variable (expected ${NAME} or ${NAME:-default}, NAME of letters, digits and _; a literal ${ is written "
      "$${)";
  EXPECT_EQ(InService("${}"), "error: \"${}\"" + form);
  EXPECT_EQ(InService("${1A}"), "error: \"${1A}\"" + form);
  EXPECT_EQ(InService("${A B}"), "error: \"${A B}\"" + form);
  EXPECT_EQ(InService("${A-x}"), "error: \"${A-x}\"" + form);
  EXPECT_EQ(InService("${A:?x}"), "error: \"${A:?x}\"" + form);
  EXPECT_EQ(InService("${X:-${A}}"),
            "error: the default of ${X} holds another \"${\" (expected plain text up to the \"}\")");
  EXPECT_EQ(InService("${BAD}"), "error: the value of ${BAD} in the daemon's environment is not UTF-8");
}

TEST(Interpolate, FindsAllProblemsWithTheirPlaces) {
  const Interpolated result = Interpolate("a${NONE}b${1}c${", Lookup, InstanceRule::kKeep);
  ASSERT_EQ(result.problems.size(), 3U);
  EXPECT_EQ(result.problems[0].offset, 1U);
  EXPECT_EQ(result.problems[1].offset, 9U);
  EXPECT_EQ(result.problems[2].offset, 14U);
}

TEST(Interpolate, WhatVariablesGrowToIsBounded) {
  const std::string big(10'000, 'x');
  std::string text;
  for (int i = 0; i < 10'000; ++i) {
    text += "${BIG}";
  }
  const auto lookup = [&big](const std::string& name) { return name == "BIG" ? std::optional(big) : std::nullopt; };
  const Interpolated result = Interpolate(text, lookup, InstanceRule::kRefuse);
  ASSERT_EQ(result.problems.size(), 1U);
  EXPECT_EQ(result.problems[0].message, "is too long (at most 1 MiB, variables replaced)");
}

TEST(InstanceIds, AreNumberedOnlyWhereThereAreMore) {
  ServiceConfig service;
  service.id = "worker";
  EXPECT_EQ(InstanceIds(service), std::vector<std::string>{"worker"});
  service.instances = 3;
  EXPECT_EQ(InstanceIds(service), (std::vector<std::string>{"worker:0", "worker:1", "worker:2"}));
}

TEST(ForInstance, ReachesEveryString) {
  const std::string form = "x${INSTANCE}$${Y}";
  const std::string text = "x4${Y}";
  ServiceConfig service;
  service.id = "s";
  for (std::string* field : {&service.name,
                             &service.description,
                             &service.run.command,
                             &service.working_directory,
                             &service.environment["K"],
                             &service.environment_file,
                             &service.user,
                             &service.group,
                             &service.health_check.url,
                             &service.health_check.method,
                             &service.health_check.headers["H"],
                             &service.health_check.unix_socket,
                             &service.health_check.ca_file,
                             &service.health_check.expected_content,
                             &service.health_check.expected_regex,
                             &service.health_check.host,
                             &service.health_check.service,
                             &service.health_check.run.command,
                             &service.graceful_shutdown.run.command,
                             &service.hooks.pre_start.run.command,
                             &service.hooks.post_start.run.command,
                             &service.hooks.pre_stop.run.command,
                             &service.hooks.post_stop.run.command}) {
    *field = form;
  }
  service.run.args = {form, form};
  service.hooks.pre_start.run.args = {form};
  const ServiceConfig expanded = ForInstance(service, 4);
  for (const std::string& field : {expanded.name,
                                   expanded.description,
                                   expanded.run.command,
                                   expanded.run.args[0],
                                   expanded.run.args[1],
                                   expanded.working_directory,
                                   expanded.environment.at("K"),
                                   expanded.environment_file,
                                   expanded.user,
                                   expanded.group,
                                   expanded.health_check.url,
                                   expanded.health_check.method,
                                   expanded.health_check.headers.at("H"),
                                   expanded.health_check.unix_socket,
                                   expanded.health_check.ca_file,
                                   expanded.health_check.expected_content,
                                   expanded.health_check.expected_regex,
                                   expanded.health_check.host,
                                   expanded.health_check.service,
                                   expanded.health_check.run.command,
                                   expanded.graceful_shutdown.run.command,
                                   expanded.hooks.pre_start.run.command,
                                   expanded.hooks.pre_start.run.args[0],
                                   expanded.hooks.post_start.run.command,
                                   expanded.hooks.pre_stop.run.command,
                                   expanded.hooks.post_stop.run.command}) {
    EXPECT_EQ(field, text);
  }
  EXPECT_EQ(expanded.id, "s");
}

}  // namespace
}  // namespace supervisor
