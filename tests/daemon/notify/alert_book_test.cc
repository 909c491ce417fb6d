#include "daemon/notify/alert_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Standing = AlertSubject::Standing;
using Verdict = AlertSubject::Verdict;

// Services of one instance each, on a clock of the test's own.
class AlertBookTest : public ::testing::Test {
 protected:
  AlertBookTest() {
    rules_.cpu_percent = 90;
    rules_.memory_mb = 100;
    rules_.sustained = absl::Seconds(60);
    rules_.restarts = 3;
    rules_.restarts_window = absl::Seconds(300);
    book_.SetRules(rules_);
  }

  AlertSubject& Add(const std::string& id, std::vector<std::string> depends_on = {}) {
    needs_.push_back(std::make_unique<std::vector<std::string>>(std::move(depends_on)));
    subjects_.push_back({.id = id,
                         .service_id = id,
                         .depends_on = needs_.back().get(),
                         .critical = false,
                         .wanted = true,
                         .standing = Standing::kUp,
                         .verdict = Verdict::kHealthy,
                         .run = 1,
                         .exceeds_limit = false,
                         .reason = ""});
    return subjects_.back();
  }
  // An earlier daemon has raised its alert an hour ago; this one has not looked yet.
  AlertSubject& AddExceededBefore() {
    AlertSubject& web = Add("web");
    Alert open;
    open.service_id = "web";
    open.rule = "limit_exceeded";
    open.raised = Now().wall - absl::Hours(1);
    web.exceeds_limit.reset();
    book_.Load({open}, {}, Now());
    EXPECT_THAT(Settle(), IsEmpty());
    return web;
  }
  AlertTime Now() const { return {now_, absl::UnixEpoch() + now_}; }
  void Pass(absl::Duration span) { now_ += span; }
  void Begin() { book_.Load({}, {}, Now()); }
  std::vector<AlertSubject> Subjects() const { return {subjects_.begin(), subjects_.end()}; }

  // "+web failed", "-web failed", "~web failed"
  std::vector<std::string> Settle() {
    std::vector<std::string> texts;
    last_ = book_.Settle(Subjects(), Now());
    for (const AlertBook::Change& change : last_) {
      const char* sign = change.kind == AlertBook::Change::Kind::kRaised     ? "+"
                         : change.kind == AlertBook::Change::Kind::kResolved ? "-"
                                                                             : "~";
      texts.push_back(sign + change.alert.service_id + " " + change.alert.rule);
    }
    return texts;
  }

  AlertRulesConfig rules_;
  AlertBook book_;
  MonoTime now_ = absl::Hours(10);
  std::deque<AlertSubject> subjects_;  // references stay good
  std::vector<std::unique_ptr<std::vector<std::string>>> needs_;
  std::vector<AlertBook::Change> last_;
};

TEST_F(AlertBookTest, NothingIsRaisedBeforeTheOpenOnesAreKnown) {
  Add("web").standing = Standing::kFailed;
  EXPECT_THAT(Settle(), IsEmpty());
  Begin();
  EXPECT_THAT(Settle(), ElementsAre("+web failed"));
}

TEST_F(AlertBookTest, AFailureIsRaisedOnceAndResolvedOnce) {
  AlertSubject& web = Add("web");
  Begin();
  EXPECT_THAT(Settle(), IsEmpty());
  web.standing = Standing::kFailed;
  web.reason = "killed by SIGKILL";
  EXPECT_THAT(Settle(), ElementsAre("+web failed"));
  EXPECT_EQ(last_[0].alert.message, "killed by SIGKILL");
  EXPECT_EQ(last_[0].alert.severity, Severity::kWarning);
  EXPECT_EQ(last_[0].alert.actor, "policy");
  EXPECT_THAT(Settle(), IsEmpty());
  web.standing = Standing::kComingUp;  // somebody starts it: not known yet
  EXPECT_THAT(Settle(), IsEmpty());
  web.standing = Standing::kFailed;  // and it fails again: the same alert
  EXPECT_THAT(Settle(), IsEmpty());
  web.standing = Standing::kUp;
  Pass(absl::Seconds(5));
  EXPECT_THAT(Settle(), ElementsAre("-web failed"));
  EXPECT_EQ(last_[0].alert.resolved, Now().wall);
  EXPECT_EQ(last_[0].alert.resolution, "it runs again");
  EXPECT_THAT(Settle(), IsEmpty());
}

TEST_F(AlertBookTest, OfACriticalServiceItIsCritical) {
  AlertSubject& web = Add("web");
  web.critical = true;
  web.standing = Standing::kFailed;
  Begin();
  book_.Sampled("web", 1, 99, 0, now_ - absl::Minutes(2));
  Settle();
  EXPECT_EQ(book_.open().at({"web", "failed"}).severity, Severity::kCritical);
}

TEST_F(AlertBookTest, AStopResolves) {
  AlertSubject& web = Add("web");
  Begin();
  web.standing = Standing::kFailed;
  Settle();
  web.standing = Standing::kDown;
  web.reason = "stopped by uid 0";
  EXPECT_THAT(Settle(), ElementsAre("-web failed"));
  EXPECT_THAT(last_[0].alert.resolution, HasSubstr("stopped by uid 0"));
}

TEST_F(AlertBookTest, UnhealthyOutlastsTheRestartThatItBrings) {
  AlertSubject& web = Add("web");
  Begin();
  book_.BecameUnhealthy("web", "HTTP 503 (expected 200)");
  web.verdict = Verdict::kUnknown;  // restarted at once
  web.standing = Standing::kComingUp;
  EXPECT_THAT(Settle(), ElementsAre("+web unhealthy"));
  EXPECT_EQ(last_[0].alert.message, "HTTP 503 (expected 200)");
  web.standing = Standing::kUp;
  EXPECT_THAT(Settle(), IsEmpty());
  web.verdict = Verdict::kHealthy;
  EXPECT_THAT(Settle(), ElementsAre("-web unhealthy"));
}

TEST_F(AlertBookTest, WhenItGivesUpFailedTakesOverFromUnhealthy) {
  AlertSubject& web = Add("web");
  Begin();
  web.verdict = Verdict::kUnhealthy;
  EXPECT_THAT(Settle(), ElementsAre("+web unhealthy"));
  web.standing = Standing::kFailed;
  EXPECT_THAT(Settle(), ElementsAre("+web failed", "-web unhealthy"));
}

TEST_F(AlertBookTest, AServiceThatLosesItsCheckIsNotUnhealthy) {
  AlertSubject& web = Add("web");
  Begin();
  web.verdict = Verdict::kUnhealthy;
  Settle();
  web.verdict = Verdict::kNoCheck;
  EXPECT_THAT(Settle(), ElementsAre("-web unhealthy"));
}

TEST_F(AlertBookTest, FlappingIsSoManyRestartsWithinTheWindow) {
  Add("web");
  Begin();
  for (int i = 0; i < 2; ++i) {
    book_.Restarted("web", now_);
    Pass(absl::Seconds(100));
  }
  EXPECT_THAT(Settle(), IsEmpty());
  book_.Restarted("web", now_);
  EXPECT_THAT(Settle(), ElementsAre("+web flapping"));
  EXPECT_THAT(last_[0].alert.message, HasSubstr("3 restarts within 5m 0s"));
  EXPECT_EQ(book_.NextLook(), now_ + absl::Seconds(100));
  Pass(absl::Seconds(99));
  EXPECT_THAT(Settle(), IsEmpty());
  Pass(absl::Seconds(1));
  EXPECT_THAT(Settle(), ElementsAre("-web flapping"));
  EXPECT_EQ(book_.NextLook(), kNoDeadline);
}

TEST_F(AlertBookTest, RestartsOfAnEarlierDaemonCount) {
  Add("web");
  const absl::Time wall = Now().wall;
  book_.Restarted("web", now_ + absl::Seconds(1));
  Pass(absl::Seconds(1));
  book_.Load({},
             {{"web", wall - absl::Seconds(10)}, {"web", wall - absl::Seconds(20)}, {"web", wall - absl::Minutes(20)}},
             Now());
  EXPECT_THAT(Settle(), ElementsAre("+web flapping"));
  EXPECT_THAT(last_[0].alert.message, HasSubstr("3 restarts"));
}

TEST_F(AlertBookTest, NoBoundNoFlapping) {
  rules_.restarts = 0;
  book_.SetRules(rules_);
  Add("web");
  Begin();
  for (int i = 0; i < 100; ++i) {
    book_.Restarted("web", now_);
  }
  EXPECT_THAT(Settle(), IsEmpty());
}

TEST_F(AlertBookTest, CpuMustBeHighForAWhile) {
  Add("web");
  Begin();
  book_.Sampled("web", 1, 95, 10, now_);
  EXPECT_THAT(Settle(), IsEmpty());
  EXPECT_EQ(book_.NextLook(), now_ + absl::Seconds(60));
  Pass(absl::Seconds(50));
  book_.Sampled("web", 1, 80, 10, now_);  // a dip begins anew
  EXPECT_THAT(Settle(), IsEmpty());
  Pass(absl::Seconds(10));
  book_.Sampled("web", 1, 99, 10, now_);
  Pass(absl::Seconds(60));
  book_.Sampled("web", 1, 97, 10, now_);
  EXPECT_THAT(Settle(), ElementsAre("+web cpu"));
  EXPECT_THAT(last_[0].alert.message, HasSubstr("CPU 97%, above 90% for 1m 0s"));
  book_.Sampled("web", 1, 20, 10, now_);
  EXPECT_THAT(Settle(), IsEmpty());
  Pass(absl::Seconds(60));
  EXPECT_THAT(Settle(), ElementsAre("-web cpu"));
}

TEST_F(AlertBookTest, WhatAnEarlierRunUsedIsNothingAgainstTheNext) {
  AlertSubject& web = Add("web");
  Begin();
  book_.Sampled("web", 1, 99, 200, now_);
  EXPECT_THAT(Settle(), IsEmpty());
  Pass(absl::Seconds(30));
  web.standing = Standing::kComingUp;  // it ended, and waits to be restarted
  web.run.reset();
  EXPECT_THAT(Settle(), IsEmpty());
  EXPECT_EQ(book_.NextLook(), kNoDeadline);
  Pass(absl::Seconds(60));
  EXPECT_THAT(Settle(), IsEmpty());
  web.standing = Standing::kUp;
  web.run = 2;
  EXPECT_THAT(Settle(), IsEmpty());  // not measured yet
  book_.Sampled("web", 2, 99, 200, now_);
  EXPECT_THAT(Settle(), IsEmpty());
  EXPECT_EQ(book_.NextLook(), now_ + absl::Seconds(60));
  Pass(absl::Seconds(60));
  EXPECT_THAT(Settle(), ElementsAre("+web cpu", "+web memory"));
}

TEST_F(AlertBookTest, TheEndOfARunDoesNotResolveCpu) {
  AlertSubject& web = Add("web");
  Begin();
  book_.Sampled("web", 1, 99, 10, now_);
  Pass(absl::Seconds(60));
  EXPECT_THAT(Settle(), ElementsAre("+web cpu"));
  book_.Sampled("web", 1, 5, 10, now_);
  web.standing = Standing::kComingUp;
  web.run.reset();
  Pass(absl::Seconds(60));
  EXPECT_THAT(Settle(), IsEmpty());
  web.standing = Standing::kUp;
  web.run = 2;
  book_.Sampled("web", 2, 5, 10, now_);
  Pass(absl::Seconds(59));
  EXPECT_THAT(Settle(), IsEmpty());
  Pass(absl::Seconds(1));
  EXPECT_THAT(Settle(), ElementsAre("-web cpu"));
  // A stop on request ends it at once.
  book_.Sampled("web", 2, 99, 10, now_);
  Pass(absl::Seconds(60));
  EXPECT_THAT(Settle(), ElementsAre("+web cpu"));
  web.standing = Standing::kDown;
  web.run.reset();
  EXPECT_THAT(Settle(), ElementsAre("-web cpu"));
}

TEST_F(AlertBookTest, ASampleWithoutARateSaysNothingOfTheProcessor) {
  Add("web");
  Begin();
  book_.Sampled("web", 1, 95, 10, now_);
  Pass(absl::Seconds(50));
  book_.Sampled("web", 1, std::nullopt, 10, now_);
  Pass(absl::Seconds(10));
  EXPECT_THAT(Settle(), ElementsAre("+web cpu")) << "it was no dip";
}

TEST_F(AlertBookTest, MemoryLikewiseAndABoundOfZeroIsNone) {
  Add("web");
  Begin();
  book_.Sampled("web", 1, 0, 200, now_);
  Pass(absl::Seconds(60));
  EXPECT_THAT(Settle(), ElementsAre("+web memory"));
  rules_.memory_mb = 0;
  book_.SetRules(rules_);
  EXPECT_THAT(Settle(), ElementsAre("-web memory"));
}

TEST_F(AlertBookTest, OutOfMemoryIsOverWhenItHasRunForTheWindow) {
  AlertSubject& web = Add("web");
  Begin();
  book_.RanOutOfMemory("web", "out of memory (limit 64 MB)", now_);
  web.standing = Standing::kComingUp;
  EXPECT_THAT(Settle(), ElementsAre("+web oom"));
  EXPECT_EQ(book_.NextLook(), now_ + absl::Seconds(300));
  Pass(absl::Seconds(200));
  book_.RanOutOfMemory("web", "out of memory (limit 64 MB)", now_);
  Pass(absl::Seconds(200));
  web.standing = Standing::kUp;
  EXPECT_THAT(Settle(), IsEmpty());
  Pass(absl::Seconds(100));
  EXPECT_THAT(Settle(), ElementsAre("-web oom"));
}

TEST_F(AlertBookTest, ALimitIsOverWhenItIsKept) {
  AlertSubject& web = Add("web");
  Begin();
  book_.ExceededLimit("web", "memory 70 MB of 64 MB", now_);
  web.exceeds_limit = true;
  EXPECT_THAT(Settle(), ElementsAre("+web limit_exceeded"));
  Pass(absl::Hours(1));
  EXPECT_THAT(Settle(), IsEmpty());
  web.exceeds_limit = false;
  EXPECT_THAT(Settle(), IsEmpty());
  Pass(absl::Seconds(60));
  EXPECT_THAT(Settle(), ElementsAre("-web limit_exceeded"));
}

TEST_F(AlertBookTest, ALimitThatAnEarlierDaemonSawExceededIsUndecidedUntilTheFirstLook) {
  const absl::Time began = Now().wall;
  AlertSubject& web = AddExceededBefore();
  Pass(absl::Minutes(5));  // `for` many times over
  EXPECT_THAT(Settle(), IsEmpty());
  web.exceeds_limit = true;
  book_.ExceededLimit("web", "memory 70 MB of 64 MB", now_);
  EXPECT_THAT(Settle(), IsEmpty());
  EXPECT_EQ(book_.open().at({"web", "limit_exceeded"}).raised, began - absl::Hours(1));
  web.exceeds_limit = false;
  Pass(absl::Seconds(60));
  EXPECT_THAT(Settle(), ElementsAre("-web limit_exceeded"));
}

TEST_F(AlertBookTest, ALimitThatIsKeptAtTheFirstLookMustBeKeptForAWhile) {
  AlertSubject& web = AddExceededBefore();
  Pass(absl::Minutes(5));
  web.exceeds_limit = false;
  EXPECT_THAT(Settle(), IsEmpty());
  EXPECT_EQ(book_.NextLook(), now_ + absl::Seconds(60));
  Pass(absl::Seconds(60));
  EXPECT_THAT(Settle(), ElementsAre("-web limit_exceeded"));
}

TEST_F(AlertBookTest, DependentsAreListedUnderTheFailedOne) {
  AlertSubject& db = Add("db");
  Add("cache");
  AlertSubject& app = Add("app", {"db", "cache"});
  AlertSubject& web = Add("web", {"app"});
  AlertSubject& off = Add("off", {"db"});
  off.wanted = false;
  off.standing = Standing::kDown;
  Begin();
  db.standing = Standing::kFailed;
  app.verdict = Verdict::kUnhealthy;
  web.standing = Standing::kFailed;
  EXPECT_THAT(Settle(), ElementsAre("+db failed"));
  EXPECT_THAT(last_[0].alert.dependents, ElementsAre("app", "web"));
  EXPECT_THAT(Settle(), IsEmpty());
  // Trouble that outlasts its cause is its own.
  db.standing = Standing::kUp;
  app.verdict = Verdict::kHealthy;
  EXPECT_THAT(Settle(), ElementsAre("-db failed", "+web failed"));
}

TEST_F(AlertBookTest, WhoIsAffectedLaterIsAdded) {
  AlertSubject& db = Add("db");
  AlertSubject& app = Add("app", {"db"});
  app.wanted = false;
  Begin();
  db.standing = Standing::kFailed;
  EXPECT_THAT(Settle(), ElementsAre("+db failed"));
  EXPECT_THAT(last_[0].alert.dependents, IsEmpty());
  app.wanted = true;
  EXPECT_THAT(Settle(), ElementsAre("~db failed"));
  EXPECT_THAT(last_[0].alert.dependents, ElementsAre("app"));
  EXPECT_THAT(Settle(), IsEmpty());
}

TEST_F(AlertBookTest, WhatStillHoldsAfterARestartOfTheDaemonIsNotRaisedAgain) {
  AlertSubject& web = Add("web");
  AlertSubject& api = Add("api");
  Add("gone");
  subjects_.pop_back();
  Alert open;
  open.raised = Now().wall - absl::Hours(1);
  std::vector<Alert> all;
  for (const auto& [service, rule] :
       std::vector<std::pair<std::string, std::string>>{{"web", "failed"}, {"api", "unhealthy"}, {"gone", "cpu"}}) {
    open.service_id = service;
    open.rule = rule;
    all.push_back(open);
  }
  web.standing = Standing::kFailed;
  api.verdict = Verdict::kUnknown;  // no check has run yet
  book_.Load(all, {}, Now());
  EXPECT_THAT(Settle(), ElementsAre("-gone cpu"));
  EXPECT_THAT(last_[0].alert.resolution, HasSubstr("not in the configuration"));
  EXPECT_EQ(last_[0].alert.raised, open.raised);
  api.verdict = Verdict::kUnhealthy;
  EXPECT_THAT(Settle(), IsEmpty());
  api.verdict = Verdict::kHealthy;  // went away, if slowly
  EXPECT_THAT(Settle(), ElementsAre("-api unhealthy"));
}

TEST_F(AlertBookTest, TheDaemonsOwn) {
  Begin();
  book_.SetOwn("database", Severity::kCritical, "disk full");
  EXPECT_THAT(Settle(), ElementsAre("+supervisor database"));
  EXPECT_THAT(Settle(), IsEmpty());
  book_.SetOwn("database", Severity::kCritical, "");
  EXPECT_THAT(Settle(), ElementsAre("-supervisor database"));
  EXPECT_THAT(Settle(), IsEmpty());
}

TEST_F(AlertBookTest, AChannelThatIsNotConfiguredAnyMoreIsNotDead) {
  Alert open;
  open.service_id = "supervisor";
  open.rule = "channel slack hooks.example.org";
  book_.Load({open}, {}, Now());
  book_.KeepOwnChannels({"channel slack hooks.example.org"});
  EXPECT_THAT(Settle(), IsEmpty());
  book_.KeepOwnChannels({});
  EXPECT_THAT(Settle(), ElementsAre("-supervisor channel slack hooks.example.org"));
}

}  // namespace
}  // namespace supervisor
