#include "daemon/notify/alert_book.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "common/time_format.h"

namespace supervisor {
namespace {

using Standing = AlertSubject::Standing;
using Verdict = AlertSubject::Verdict;
using Key = std::pair<std::string, std::string>;

constexpr std::string_view kOwnId = "supervisor";
// More are not needed to say that it flaps: limits::kMostAttempts bounds the rule, not what happens.
constexpr size_t kMostRestarts = 10'000;

// In this order: those that dependents are listed under come first.
constexpr std::array kRules = {alert_rule::kFailed,       alert_rule::kUnhealthy, alert_rule::kFlapping,
                               alert_rule::kOutOfMemory,  alert_rule::kCpu,       alert_rule::kMemory,
                               alert_rule::kLimitExceeded};

bool SpreadsToDependents(std::string_view rule) {
  return rule == alert_rule::kFailed || rule == alert_rule::kUnhealthy || rule == alert_rule::kFlapping;
}

Severity SeverityOf(std::string_view rule, bool critical) {
  const bool is_down = SpreadsToDependents(rule) || rule == alert_rule::kOutOfMemory;
  return critical && is_down ? Severity::kCritical : Severity::kWarning;
}

std::string DownText(const AlertSubject& subject) {
  return subject.reason.empty() ? "it is stopped" : fmt::format("it is stopped: {}", subject.reason);
}

}  // namespace

// ----------------------------------------------------------------------------------------------------- what happened

void AlertBook::Load(const std::vector<Alert>& open, const std::vector<Restart>& restarts, AlertTime now) {
  loaded_ = true;
  const auto mono = [&](absl::Time at) { return now.mono - (now.wall - std::min(at, now.wall)); };
  for (const Alert& alert : open) {
    open_.insert_or_assign(Key(alert.service_id, alert.rule), alert);
    if (alert.service_id == kOwnId) {
      continue;
    }
    Tracked& tracked = tracked_[alert.service_id];
    if (alert.rule == alert_rule::kUnhealthy && !tracked.unhealthy) {
      tracked.unhealthy = true;
      tracked.unhealthy_message = alert.message;
    } else if (alert.rule == alert_rule::kOutOfMemory && !tracked.out_of_memory) {
      tracked.out_of_memory = Occurrence{mono(alert.raised), alert.message};
    } else if (alert.rule == alert_rule::kLimitExceeded && !tracked.limit) {
      tracked.limit = Occurrence{mono(alert.raised), alert.message};
    }
  }
  std::map<std::string, std::deque<MonoTime>> earlier;
  for (const Restart& restart : restarts) {
    earlier[restart.id].push_back(mono(restart.at));
  }
  for (auto& [id, times] : earlier) {
    std::deque<MonoTime>& known = tracked_[id].restarts;
    known.insert(known.begin(), times.begin(), times.end());
    std::ranges::sort(known);
  }
}

void AlertBook::Restarted(const std::string& id, MonoTime now) {
  std::deque<MonoTime>& restarts = tracked_[id].restarts;
  restarts.push_back(now);
  if (restarts.size() > kMostRestarts) {
    restarts.pop_front();
  }
}

void AlertBook::BecameUnhealthy(const std::string& id, const std::string& message) {
  Tracked& tracked = tracked_[id];
  tracked.unhealthy = true;
  tracked.unhealthy_message = message;
}

void AlertBook::RanOutOfMemory(const std::string& id, const std::string& message, MonoTime now) {
  tracked_[id].out_of_memory = Occurrence{now, message};
}

void AlertBook::ExceededLimit(const std::string& id, const std::string& message, MonoTime now) {
  tracked_[id].limit = Occurrence{now, message};
}

void AlertBook::NoteLevel(Level& level, uint64_t run, double value, double bound, MonoTime now) {
  const bool over = bound > 0 && value > bound;
  if (level.run != run || over != level.over) {
    level.since = now;
  }
  level.run = run;
  level.over = over;
  level.last = value;
}

void AlertBook::Sampled(const std::string& id, uint64_t run, std::optional<double> cpu_percent, double memory_mb,
                        MonoTime now) {
  Tracked& tracked = tracked_[id];
  if (cpu_percent) {
    NoteLevel(tracked.cpu, run, *cpu_percent, rules_.cpu_percent, now);
  }
  NoteLevel(tracked.memory, run, memory_mb, rules_.memory_mb, now);
}

void AlertBook::SetOwn(const std::string& rule, Severity severity, const std::string& message) {
  own_.insert_or_assign(rule, Own{severity, message});
}

void AlertBook::KeepOwnChannels(const std::set<std::string>& rules) {
  for (const auto& [key, alert] : open_) {
    const bool is_channel = key.first == kOwnId && key.second.starts_with(alert_rule::kChannelPrefix);
    if (is_channel && !rules.contains(key.second)) {
      own_.insert_or_assign(key.second, Own{alert.severity, ""});
    }
  }
}

// --------------------------------------------------------------------------------------------------------- the rules

void AlertBook::LookAgain(MonoTime when) { next_look_ = std::min(next_look_, when); }

AlertBook::Finding AlertBook::Failed(const AlertSubject& subject) const {
  switch (subject.standing) {
    case Standing::kFailed:
      return {.holds = Holds::kYes,
              .message = subject.reason.empty() ? "it has given up" : subject.reason,
              .actor = "policy"};
    case Standing::kUp:
      return {.holds = Holds::kNo, .resolution = "it runs again"};
    case Standing::kDown:
      return {.holds = Holds::kNo, .resolution = DownText(subject)};
    case Standing::kComingUp:
      return {};
  }
  return {};
}

AlertBook::Finding AlertBook::Unhealthy(const AlertSubject& subject, Tracked& tracked) const {
  if (subject.verdict == Verdict::kHealthy || subject.verdict == Verdict::kNoCheck ||
      subject.standing == Standing::kDown || subject.standing == Standing::kFailed) {
    tracked.unhealthy = false;
    std::string why = "it is healthy";
    if (subject.standing == Standing::kDown) {
      why = DownText(subject);
    } else if (subject.standing == Standing::kFailed) {
      why = "it has failed";
    } else if (subject.verdict == Verdict::kNoCheck) {
      why = "it has no health check any more";
    }
    return {.holds = Holds::kNo, .resolution = std::move(why)};
  }
  if (tracked.unhealthy || subject.verdict == Verdict::kUnhealthy) {
    return {.holds = Holds::kYes,
            .message = tracked.unhealthy_message.empty() ? "its health check fails" : tracked.unhealthy_message,
            .actor = "health check"};
  }
  return {};
}

AlertBook::Finding AlertBook::Flapping(const AlertSubject& subject, Tracked& tracked, MonoTime now) {
  if (subject.standing == Standing::kDown) {
    tracked.restarts.clear();
    return {.holds = Holds::kNo, .resolution = DownText(subject)};
  }
  std::deque<MonoTime>& restarts = tracked.restarts;
  while (!restarts.empty() && restarts.front() + rules_.restarts_window <= now) {
    restarts.pop_front();
  }
  const auto bound = static_cast<size_t>(rules_.restarts);
  if (bound == 0 || restarts.size() < bound) {
    return {.holds = Holds::kNo,
            .resolution = fmt::format("fewer than {} restarts within {}", bound, FormatSpan(rules_.restarts_window))};
  }
  LookAgain(restarts[restarts.size() - bound] + rules_.restarts_window);
  return {.holds = Holds::kYes,
          .message = fmt::format("{} restarts within {} (monitoring.alerts.restarts: {})", restarts.size(),
                                 FormatSpan(rules_.restarts_window), rules_.restarts),
          .actor = "policy"};
}

AlertBook::Finding AlertBook::OutOfMemory(const AlertSubject& subject, Tracked& tracked, MonoTime now) {
  if (subject.standing == Standing::kDown) {
    tracked.out_of_memory.reset();
    return {.holds = Holds::kNo, .resolution = DownText(subject)};
  }
  if (!tracked.out_of_memory) {
    return {.holds = Holds::kNo};
  }
  const MonoTime over_at = tracked.out_of_memory->at + rules_.restarts_window;
  if (now >= over_at && subject.standing == Standing::kUp) {
    tracked.out_of_memory.reset();
    return {.holds = Holds::kNo,
            .resolution = fmt::format("nothing of it was killed for {}", FormatSpan(rules_.restarts_window))};
  }
  if (now < over_at) {
    LookAgain(over_at);
  }
  return {.holds = Holds::kYes, .message = tracked.out_of_memory->message, .actor = "kernel"};
}

AlertBook::Finding AlertBook::LimitExceeded(const AlertSubject& subject, Tracked& tracked, MonoTime now) {
  if (subject.standing == Standing::kDown) {
    tracked.limit.reset();
    return {.holds = Holds::kNo, .resolution = DownText(subject)};
  }
  if (!tracked.limit) {
    return {.holds = Holds::kNo};
  }
  // It was over it when the daemon before this one looked: how long it has not been counts from the first look on.
  if (!subject.exceeds_limit) {
    tracked.limit->at = kNoDeadline;
    return {};
  }
  tracked.limit->at = std::min(tracked.limit->at, now);
  if (*subject.exceeds_limit) {
    tracked.limit->at = now;
    return {.holds = Holds::kYes, .message = tracked.limit->message, .actor = "limit"};
  }
  const MonoTime over_at = tracked.limit->at + rules_.sustained;
  if (now >= over_at) {
    tracked.limit.reset();
    return {.holds = Holds::kNo, .resolution = "it keeps its limits"};
  }
  LookAgain(over_at);
  return {.holds = Holds::kYes, .message = tracked.limit->message, .actor = "limit"};
}

AlertBook::Finding AlertBook::Above(const AlertSubject& subject, const Level& level, std::string_view what,
                                    MonoTime now) {
  if (subject.standing == Standing::kDown || subject.standing == Standing::kFailed) {
    return {.holds = Holds::kNo, .resolution = "it is not running"};
  }
  const bool is_cpu = what == alert_rule::kCpu;
  const double bound = is_cpu ? rules_.cpu_percent : rules_.memory_mb;
  if (bound <= 0) {
    return {.holds = Holds::kNo, .resolution = "the rule is switched off"};
  }
  // What an earlier run used says nothing of one that has not been measured, still less of no process.
  if (!subject.run || level.run != subject.run) {
    return {};
  }
  const MonoTime decided_at = level.since + rules_.sustained;
  if (now < decided_at) {
    LookAgain(decided_at);
    return {};
  }
  const std::string span = FormatSpan(now - level.since);
  if (!level.over) {
    return {.holds = Holds::kNo, .resolution = fmt::format("not above its bound for {}", span)};
  }
  return {.holds = Holds::kYes,
          .message = is_cpu ? fmt::format("CPU {:.0f}%, above {:g}% for {} (monitoring.alerts.cpu_percent)", level.last,
                                          bound, span)
                            : fmt::format("memory {:.1f} MB, above {:g} MB for {} (monitoring.alerts.memory_mb)",
                                          level.last, bound, span),
          .actor = "limit"};
}

AlertBook::Finding AlertBook::Judge(const AlertSubject& subject, std::string_view rule, Tracked& tracked,
                                    MonoTime now) {
  if (rule == alert_rule::kFailed) {
    return Failed(subject);
  }
  if (rule == alert_rule::kUnhealthy) {
    return Unhealthy(subject, tracked);
  }
  if (rule == alert_rule::kFlapping) {
    return Flapping(subject, tracked, now);
  }
  if (rule == alert_rule::kOutOfMemory) {
    return OutOfMemory(subject, tracked, now);
  }
  if (rule == alert_rule::kLimitExceeded) {
    return LimitExceeded(subject, tracked, now);
  }
  return Above(subject, rule == alert_rule::kCpu ? tracked.cpu : tracked.memory, rule, now);
}

// -------------------------------------------------------------------------------------------------------- one look

// Who depends on whom, and who is in trouble that spreads.
struct AlertBook::Look {
  const std::vector<AlertSubject>& subjects;
  std::map<std::string, const std::vector<std::string>*> depends_on = {};  // by service
  std::map<std::string, std::vector<std::string>> needed_by = {};          // services, by service
  std::set<std::string> troubled = {};                                     // services

  void Relate() {
    for (const AlertSubject& subject : subjects) {
      if (!depends_on.emplace(subject.service_id, subject.depends_on).second || subject.depends_on == nullptr) {
        continue;
      }
      for (const std::string& other : *subject.depends_on) {
        needed_by[other].push_back(subject.service_id);
      }
    }
  }

  bool RestsOnTrouble(const std::string& service) const {
    std::set<std::string> seen;
    std::vector<std::string> todo{service};
    while (!todo.empty()) {
      const auto found = depends_on.find(todo.back());
      todo.pop_back();
      if (found == depends_on.end() || found->second == nullptr) {
        continue;
      }
      for (const std::string& other : *found->second) {
        if (troubled.contains(other)) {
          return true;
        }
        if (seen.insert(other).second) {
          todo.push_back(other);
        }
      }
    }
    return false;
  }

  // Instances that are to be up and need `service`, by however many steps.
  std::set<std::string> DependentsOf(const std::string& service) const {
    std::set<std::string> services;
    std::vector<std::string> todo{service};
    while (!todo.empty()) {
      const auto found = needed_by.find(todo.back());
      todo.pop_back();
      if (found == needed_by.end()) {
        continue;
      }
      for (const std::string& other : found->second) {
        if (services.insert(other).second) {
          todo.push_back(other);
        }
      }
    }
    std::set<std::string> ids;
    for (const AlertSubject& subject : subjects) {
      if (subject.wanted && services.contains(subject.service_id)) {
        ids.insert(subject.id);
      }
    }
    return ids;
  }
};

void AlertBook::Resolve(const std::string& id, const std::string& rule, const std::string& why, AlertTime now,
                        std::vector<Change>& changes) {
  auto node = open_.extract(Key(id, rule));
  Alert alert = std::move(node.mapped());
  alert.resolved = now.wall;
  alert.resolution = why;
  changes.push_back({Change::Kind::kResolved, std::move(alert)});
}

void AlertBook::ResolveGone(const std::set<std::string>& ids, AlertTime now, std::vector<Change>& changes) {
  std::vector<Key> gone;
  for (const auto& [key, alert] : open_) {
    if (key.first != kOwnId && !ids.contains(key.first)) {
      gone.push_back(key);
    }
  }
  for (const Key& key : gone) {
    Resolve(key.first, key.second, "it is not in the configuration any more", now, changes);
  }
  std::erase_if(tracked_, [&](const auto& entry) { return !ids.contains(entry.first); });
}

void AlertBook::SettleOwn(AlertTime now, std::vector<Change>& changes) {
  for (const auto& [rule, own] : own_) {
    const Key key{std::string(kOwnId), rule};
    const bool is_open = open_.contains(key);
    if (own.message.empty() && is_open) {
      Resolve(key.first, key.second, "it works again", now, changes);
    } else if (!own.message.empty() && !is_open) {
      Alert alert{.service_id = key.first,
                  .rule = rule,
                  .severity = own.severity,
                  .message = own.message,
                  .actor = "supervisor",
                  .dependents = {},
                  .raised = now.wall,
                  .resolved = std::nullopt,
                  .resolution = ""};
      open_.emplace(key, alert);
      changes.push_back({Change::Kind::kRaised, std::move(alert)});
    }
  }
}

std::vector<AlertBook::Change> AlertBook::Settle(const std::vector<AlertSubject>& subjects, AlertTime now) {
  std::vector<Change> changes;
  next_look_ = kNoDeadline;
  if (!loaded_) {
    return changes;
  }
  struct Judged {
    const AlertSubject* subject;
    std::string_view rule;
    Finding finding;
  };
  std::vector<Judged> judged;  // without what is neither so nor was
  std::set<std::string> ids;
  Look look{.subjects = subjects};
  for (const AlertSubject& subject : subjects) {
    ids.insert(subject.id);
    Tracked& tracked = tracked_[subject.id];
    for (const std::string_view rule : kRules) {
      Finding finding = Judge(subject, rule, tracked, now.mono);
      const bool is_open = open_.contains(Key(subject.id, rule));
      if (SpreadsToDependents(rule) &&
          (finding.holds == Holds::kYes || (finding.holds == Holds::kUndecided && is_open))) {
        look.troubled.insert(subject.service_id);
      }
      if (finding.holds == Holds::kYes || is_open) {
        judged.push_back({&subject, rule, std::move(finding)});
      }
    }
  }
  ResolveGone(ids, now, changes);
  if (!look.troubled.empty()) {
    look.Relate();
  }
  for (Judged& entry : judged) {
    const std::string& id = entry.subject->id;
    const Key key{id, std::string(entry.rule)};
    const auto open = open_.find(key);
    const bool spreads = SpreadsToDependents(entry.rule);
    if (open != open_.end()) {
      if (entry.finding.holds == Holds::kNo) {
        Resolve(id, key.second, entry.finding.resolution, now, changes);
        continue;
      }
      std::vector<std::string>& dependents = open->second.dependents;
      std::set<std::string> all(dependents.begin(), dependents.end());
      if (spreads) {
        all.merge(look.DependentsOf(entry.subject->service_id));
      }
      if (all.size() != dependents.size()) {
        dependents.assign(all.begin(), all.end());
        changes.push_back({Change::Kind::kChanged, open->second});
      }
      continue;
    }
    if (spreads && look.RestsOnTrouble(entry.subject->service_id)) {
      continue;
    }
    Alert alert{.service_id = id,
                .rule = key.second,
                .severity = SeverityOf(entry.rule, entry.subject->critical),
                .message = std::move(entry.finding.message),
                .actor = std::move(entry.finding.actor),
                .dependents = {},
                .raised = now.wall,
                .resolved = std::nullopt,
                .resolution = ""};
    if (spreads) {
      const std::set<std::string> dependents = look.DependentsOf(entry.subject->service_id);
      alert.dependents.assign(dependents.begin(), dependents.end());
    }
    open_.emplace(key, alert);
    changes.push_back({Change::Kind::kRaised, std::move(alert)});
  }
  SettleOwn(now, changes);
  return changes;
}

}  // namespace supervisor
