#include "daemon/service/targets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::vector<TargetCandidate>& Candidates() {
  static const std::vector<TargetCandidate> candidates = {{"db", "db", {"backend"}},
                                                          {"web", "web", {"front"}},
                                                          {"web-admin", "web-admin", {"front", "backend"}},
                                                          {"worker:0", "worker", {}},
                                                          {"worker:1", "worker", {}}};
  return candidates;
}

std::vector<std::string> Resolved(const std::vector<std::string>& targets) {
  const absl::StatusOr<std::vector<std::string>> ids = ResolveTargets(targets, Candidates());
  return ids.ok() ? *ids : std::vector<std::string>{"error: " + std::string(ids.status().message())};
}

TEST(Targets, EachForm) {
  EXPECT_THAT(Resolved({"db"}), ElementsAre("db"));
  EXPECT_THAT(Resolved({"worker"}), ElementsAre("worker:0", "worker:1"));
  EXPECT_THAT(Resolved({"worker:1"}), ElementsAre("worker:1"));
  EXPECT_THAT(Resolved({"web*"}), ElementsAre("web", "web-admin"));
  EXPECT_THAT(Resolved({"@backend"}), ElementsAre("db", "web-admin"));
  EXPECT_THAT(Resolved({"all"}), ElementsAre("db", "web", "web-admin", "worker:0", "worker:1"));
  EXPECT_THAT(Resolved({}), ElementsAre("db", "web", "web-admin", "worker:0", "worker:1"));
}

TEST(Targets, SeveralNameEachInstanceOnce) {
  EXPECT_THAT(Resolved({"web", "web*", "@front"}), ElementsAre("web", "web-admin"));
}

TEST(Targets, WhatNamesNothingIsAnError) {
  EXPECT_THAT(Resolved({"db", "wbe"}), ElementsAre(HasSubstr("no such service: wbe (did you mean web")));
  EXPECT_THAT(Resolved({"@fornt"}), ElementsAre(HasSubstr("no such group: @fornt (did you mean @front?)")));
  EXPECT_THAT(Resolved({"zzz*"}), ElementsAre(HasSubstr("no such service: zzz*")));
  EXPECT_THAT(Resolved({""}), ElementsAre(HasSubstr("no such service")));
  EXPECT_THAT(Resolved({"../db"}), ElementsAre(HasSubstr("no such service")));
}

TEST(Targets, AllOfNothingIsNothing) {
  const absl::StatusOr<std::vector<std::string>> ids = ResolveTargets({"all"}, {});
  ASSERT_TRUE(ids.ok());
  EXPECT_THAT(*ids, IsEmpty());
}

TEST(Targets, OnlyAnIdNamesPlainly) {
  const TargetCandidate web{.id = "web", .service_id = "web", .groups = {"front"}};
  const TargetCandidate worker{.id = "worker:1", .service_id = "worker", .groups = {}};
  EXPECT_TRUE(IsNamedPlainly({"db", "web"}, web));
  EXPECT_TRUE(IsNamedPlainly({"worker:1"}, worker));
  EXPECT_TRUE(IsNamedPlainly({"worker"}, worker));
  EXPECT_TRUE(IsNamedPlainly({"all", "web"}, web));
  for (const char* selecting : {"all", "w*", "@front", "we[b]", "worker:0"}) {
    EXPECT_FALSE(IsNamedPlainly({selecting}, web)) << selecting;
  }
  EXPECT_FALSE(IsNamedPlainly({}, web)) << "no target is all";
}

}  // namespace
}  // namespace supervisor
