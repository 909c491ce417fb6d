#include "daemon/service/alert_keeper.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "common/clock.h"
#include "common/diag_log.h"
#include "common/time_format.h"
#include "daemon/notify/channel_succession.h"
#include "daemon/notify/message.h"

namespace supervisor {
namespace {

// What happens in one go is looked at once.
constexpr absl::Duration kSettleDelay = absl::Milliseconds(20);
// A database that cannot be read must not keep alerts from being raised.
constexpr int kMostLoads = 5;
constexpr absl::Duration kLoadAgain = absl::Seconds(1);
constexpr absl::Duration kLoadPatience = absl::Seconds(10);  // of a disk that hangs; alerts wait no longer
constexpr size_t kMostOpen = 10'000;
// What nobody was told for longer is no news: the newest so many are.
constexpr size_t kMostOwed = 200;

AlertTime Now() { return {MonotonicNow(), WallNow()}; }

Alert AlertOf(const AlertRow& row) {
  return {.service_id = row.service_id,
          .rule = row.rule,
          .severity = ParseSeverity(row.severity),
          .message = row.message,
          .actor = "",
          .dependents = row.dependents,
          .raised = row.raised,
          .resolved = row.resolved,
          .resolution = ""};
}

std::string Details(const Alert& alert) {
  nlohmann::ordered_json details = {{"rule", alert.rule}, {"severity", SeverityName(alert.severity)}};
  if (!alert.dependents.empty()) {
    details["dependents"] = alert.dependents;
  }
  if (alert.resolved) {
    details["raised_at"] = FormatTimestamp(alert.raised);
    details["lasted_seconds"] = absl::ToDoubleSeconds(*alert.resolved - alert.raised);
  }
  return details.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

AlertKeeper::AlertKeeper(Loop& loop, Store& store, Outlets outlets)
    : loop_(loop),
      store_(store),
      outlets_(std::move(outlets)),
      began_(WallNow()),
      timer_(loop.NewTimer([this] { Settle(); })),
      load_timer_(loop.NewTimer([this] { waits_for_load_ ? GiveUpLoad("the database does not answer") : Load(); })),
      repeat_timer_(loop.NewTimer([this] { Repeat(); })),
      alive_(std::make_shared<bool>(true)) {}

void AlertKeeper::Configure(const AlertRulesConfig& rules, const NotificationsConfig& notifications) {
  rules_ = rules;
  book_.SetRules(rules);
  PassOn(notifications.enabled ? notifications.channels : std::vector<ChannelConfig>());
  min_severity_ = notifications.min_severity;
  repeats_.SetInterval(notifications.repeat_interval, book_.open(), Now());
  repeat_timer_->ArmAt(repeats_.Next());
  SettleSoon();
}

// What was owed to a channel is owed to the one that goes on with what waits in it; to nobody where there is none,
// which the notifier says in the log.
void AlertKeeper::PassOn(const std::vector<ChannelConfig>& channels) {
  const std::map<std::string, std::string> successors = SuccessorLabels(channel_configs_, channels);
  for (auto entry = owed_.begin(); entry != owed_.end();) {
    std::vector<std::string> labels;
    for (const std::string& label : entry->second.labels) {
      const auto successor = successors.find(label);
      if (successor != successors.end() && !successor->second.empty()) {
        labels.push_back(successor->second);
      }
    }
    if (std::exchange(entry->second.labels, labels) != labels) {
      const auto& [service_id, rule, raised] = entry->first;
      Alert alert;
      alert.service_id = service_id;
      alert.rule = rule;
      alert.raised = raised;
      store_.AlertTold(RowOf(alert));
    }
    entry = labels.empty() ? owed_.erase(entry) : std::next(entry);
  }
  channel_configs_ = channels;
  channels_ = ChannelLabels(channels);
  std::erase_if(dropped_, [this](const auto& entry) { return std::ranges::count(channels_, entry.first) == 0; });
}

AlertRow AlertKeeper::RowOf(const Alert& alert) const {
  const auto owed = owed_.find(KeyOf(alert));
  return {.id = 0,
          .service_id = alert.service_id,
          .rule = alert.rule,
          .severity = std::string(SeverityName(alert.severity)),
          .message = alert.message,
          .dependents = alert.dependents,
          .raised = alert.raised,
          .resolved = alert.resolved,
          .owed = owed != owed_.end() ? owed->second.labels : std::vector<std::string>()};
}

// That a channel is dead is for the others to say.
std::vector<std::string> AlertKeeper::ChannelsFor(const Alert& alert) const {
  std::vector<std::string> labels;
  if (alert.severity >= min_severity_) {
    std::ranges::copy_if(channels_, std::back_inserter(labels), [&](const std::string& label) {
      return alert.rule != std::string(alert_rule::kChannelPrefix) + label;
    });
  }
  return labels;
}

// --------------------------------------------------------------------------------------- what an earlier daemon left

void AlertKeeper::Begin() {
  began_ = WallNow();
  Load();
}

void AlertKeeper::Load() {
  ++loads_;
  waits_for_load_ = true;
  load_timer_->ArmAfter(kLoadPatience);
  store_.QueryAlerts(
      {.include_resolved = false, .limit = kMostOpen},
      [this, alive = std::weak_ptr<bool>(alive_), &loop = loop_](const absl::StatusOr<std::vector<AlertRow>>& rows) {
        loop.Post([this, alive, rows] {
          if (alive.expired() || !waits_for_load_) {
            return;
          }
          rows.ok() ? LoadRestarts(*rows) : RetryLoad(std::string(rows.status().message()));
        });
      });
}

void AlertKeeper::LoadRestarts(std::vector<AlertRow> open) {
  store_.QueryRestarts(began_ - rules_.restarts_window,
                       [this, alive = std::weak_ptr<bool>(alive_), &loop = loop_,
                        open = std::move(open)](const absl::StatusOr<std::vector<RestartRow>>& rows) {
                         loop.Post([this, alive, open, rows] {
                           if (alive.expired() || !waits_for_load_) {
                             return;
                           }
                           rows.ok() ? Finish(open, *rows) : RetryLoad(std::string(rows.status().message()));
                         });
                       });
}

void AlertKeeper::RetryLoad(const std::string& why) {
  if (loads_ < kMostLoads) {
    waits_for_load_ = false;
    load_timer_->ArmAfter(kLoadAgain);
    return;
  }
  GiveUpLoad(why);
}

void AlertKeeper::GiveUpLoad(const std::string& why) {
  LogWarning("the alerts that were open are not known: what still holds is raised again", {{"error", why}});
  Finish({}, {});
  SettleSoon();  // what is owed may not come either
}

void AlertKeeper::Finish(const std::vector<AlertRow>& open, const std::vector<RestartRow>& restarts) {
  waits_for_load_ = false;
  load_timer_->Disarm();
  std::vector<Alert> alerts;
  alerts.reserve(open.size());
  for (const AlertRow& row : open) {
    alerts.push_back(AlertOf(row));
    store_.RaiseAlert(row);  // for it to know what a database that is put in the place of this one is to be told
  }
  std::vector<AlertBook::Restart> earlier;
  for (const RestartRow& row : restarts) {
    if (row.timestamp < began_) {  // the book has seen the others itself
      earlier.push_back({row.service_id, row.timestamp});
    }
  }
  const AlertTime now = Now();
  book_.Load(alerts, earlier, now);
  for (const Alert& alert : alerts) {
    repeats_.Opened(alert, now);
  }
  repeat_timer_->ArmAt(repeats_.Next());
  // An answer comes when what was queued before is on disk, or when there is trouble that says so itself. A daemon that
  // died between the end of the trouble and that of its alert has left this one open.
  if (store_.Stats().error.empty()) {
    book_.SetOwn(std::string(alert_rule::kDatabase), Severity::kWarning, "");
  }
  LoadOwed();
}

void AlertKeeper::LoadOwed() {
  store_.QueryAlerts(
      {.limit = kMostOwed, .only_owed = true},
      [this, alive = std::weak_ptr<bool>(alive_), &loop = loop_](const absl::StatusOr<std::vector<AlertRow>>& rows) {
        loop.Post([this, alive, rows] {
          if (alive.expired()) {
            return;
          }
          if (rows.ok()) {
            TakeUpOwed(*rows);
          }
          Settle();
        });
      });
}

void AlertKeeper::TakeUpOwed(const std::vector<AlertRow>& rows) {
  std::map<std::string, int> lost;  // by label
  for (const AlertRow& row : rows) {
    Alert alert = AlertOf(row);
    if (alert.resolved.value_or(alert.raised) >= began_ || owed_.contains(KeyOf(alert))) {
      continue;  // this daemon's own, on its way
    }
    if (alert.resolved) {
      alert.resolution = "it was over before this could be told";
    }
    std::vector<std::string> labels = ChannelsFor(alert);
    std::erase_if(labels, [&](const std::string& label) { return std::ranges::count(row.owed, label) == 0; });
    for (const std::string& label : row.owed) {
      lost[label] += std::ranges::count(channels_, label) == 0 ? 1 : 0;
    }
    if (labels.empty()) {
      store_.AlertTold(RowOf(alert));  // nobody is left whom it could be told
      continue;
    }
    Owe(alert, labels);
    LogInfo("a channel is told what the daemon before had not told it",
            {{"service", alert.service_id}, {"rule", alert.rule}});
    outlets_.notify(alert, labels);
  }
  for (const auto& [label, count] : lost) {
    if (count > 0) {
      LogWarning("notifications were not delivered", {{"channel", label},
                                                      {"count", std::to_string(count)},
                                                      {"why", "its channel is not in the configuration any more"}});
    }
  }
}

// For a channel that is dead for good they would add up: the oldest are told by nobody any more, unless by a daemon
// that finds them in the database.
void AlertKeeper::Owe(const Alert& alert, const std::vector<std::string>& labels) {
  owed_.insert_or_assign(KeyOf(alert), Owed{alert.resolved, labels});
  if (owed_.size() > kMostOwed) {
    owed_.erase(
        std::ranges::min_element(owed_, {}, [](const auto& entry) { return std::get<absl::Time>(entry.first); }));
  }
}

void AlertKeeper::OnTold(const std::string& label, const std::vector<Alert>& alerts) {
  // Whoever knew it for dead: an earlier daemon, or a channel of this label that was configured otherwise.
  OnChannel(label, "");
  Settled(label, alerts);
}

void AlertKeeper::OnDropped(const std::string& label, const std::vector<Alert>& alerts, const std::string& why) {
  Dropped& dropped = dropped_[label];
  dropped.count += alerts.size();
  dropped.why = why;
  Settled(label, alerts);
}

std::vector<std::string> AlertKeeper::remarks() const {
  std::vector<std::string> remarks;
  for (const auto& [label, dropped] : dropped_) {
    remarks.push_back(fmt::format("notifications: {} refused {} for good, which were dropped; the last: {}", label,
                                  dropped.count, dropped.why));
  }
  return remarks;
}

void AlertKeeper::Settled(const std::string& label, const std::vector<Alert>& alerts) {
  for (const Alert& alert : alerts) {
    const auto owed = owed_.find(KeyOf(alert));
    // One that is over meanwhile is still to be told that.
    if (owed == owed_.end() || owed->second.resolved != alert.resolved || std::erase(owed->second.labels, label) == 0) {
      continue;
    }
    store_.AlertTold(RowOf(alert));
    if (owed->second.labels.empty()) {
      owed_.erase(owed);
    }
  }
}

// ------------------------------------------------------------------------------------------------------ what happens

void AlertKeeper::OnRecord(const std::string& id, const RecordEvent& event) {
  const MonoTime now = MonotonicNow();
  // One with an attempt is the policy's. The others are what a caller asked for, or that a check or a watchdog stops
  // it, whereupon the policy decides.
  if (event.type == "restarting" && event.attempt > 0) {
    book_.Restarted(id, now);
  } else if (event.type == "unhealthy") {
    book_.BecameUnhealthy(id, event.message);
  } else if (event.type == "oom_killed") {
    book_.RanOutOfMemory(id, event.message, now);
  } else if (event.type == "limit_exceeded") {
    book_.ExceededLimit(id, event.message, now);
  }
  SettleSoon();
}

void AlertKeeper::OnSample(const std::string& id, uint64_t run, std::optional<double> cpu_percent, double memory_mb) {
  book_.Sampled(id, run, cpu_percent, memory_mb, MonotonicNow());
  const bool above = (rules_.cpu_percent > 0 && cpu_percent > rules_.cpu_percent) ||
                     (rules_.memory_mb > 0 && memory_mb > rules_.memory_mb);
  if (above || !book_.open().empty()) {
    SettleSoon();
  }
}

void AlertKeeper::OnChange() { SettleSoon(); }

void AlertKeeper::OnDatabase(const std::string& trouble) {
  book_.SetOwn(std::string(alert_rule::kDatabase), Severity::kWarning, trouble);
  SettleSoon();
}

void AlertKeeper::OnChannel(const std::string& label, const std::string& trouble) {
  if (std::ranges::count(channels_, label) == 0) {
    return;  // it was taken from the configuration meanwhile
  }
  const std::string text =
      trouble.empty() ? "" : fmt::format("notifications by {} do not get through: {}", label, trouble);
  book_.SetOwn(std::string(alert_rule::kChannelPrefix) + label, Severity::kWarning, text);
  SettleSoon();
}

// ---------------------------------------------------------------------------------------------------- what comes of it

void AlertKeeper::SettleSoon() {
  const MonoTime when = MonotonicNow() + kSettleDelay;
  if (when < armed_) {
    armed_ = when;
    timer_->ArmAt(when);
  }
}

void AlertKeeper::Settle() {
  std::set<std::string> rules;
  for (const std::string& label : channels_) {
    rules.insert(std::string(alert_rule::kChannelPrefix) + label);
  }
  book_.KeepOwnChannels(rules);
  for (const AlertBook::Change& change : book_.Settle(outlets_.subjects(), Now())) {
    Tell(change);
  }
  armed_ = book_.NextLook();
  timer_->ArmAt(armed_);
}

// A channel that has not been told of it yet hears of it anyway: repetitions do not pile up in one that is dead.
void AlertKeeper::Repeat() {
  for (const Alert& alert : repeats_.TakeDue(book_.open(), Now())) {
    std::vector<std::string> labels = ChannelsFor(alert);
    std::vector<std::string> owed_to = labels;
    if (const auto owed = owed_.find(KeyOf(alert)); owed != owed_.end()) {
      const std::vector<std::string>& waiting = owed->second.labels;
      std::erase_if(labels, [&](const std::string& label) { return std::ranges::count(waiting, label) > 0; });
      owed_to = waiting;
      owed_to.insert(owed_to.end(), labels.begin(), labels.end());
    }
    if (!labels.empty()) {
      Owe(alert, owed_to);
      store_.AlertTold(RowOf(alert));
      outlets_.notify(alert, labels);
    }
  }
  repeat_timer_->ArmAt(repeats_.Next());
}

void AlertKeeper::Tell(const AlertBook::Change& change) {
  const Alert& alert = change.alert;
  const std::vector<std::string> labels = ChannelsFor(alert);
  if (change.kind != AlertBook::Change::Kind::kChanged && !labels.empty()) {
    Owe(alert, labels);
  }
  switch (change.kind) {
    case AlertBook::Change::Kind::kChanged:
      store_.RaiseAlert(RowOf(alert));
      return;
    case AlertBook::Change::Kind::kRaised:
      store_.RaiseAlert(RowOf(alert));
      repeats_.Opened(alert, Now());
      break;
    case AlertBook::Change::Kind::kResolved:
      store_.ResolveAlert(RowOf(alert));
      repeats_.Closed(alert);
      break;
  }
  repeat_timer_->ArmAt(repeats_.Next());
  const bool raised = change.kind == AlertBook::Change::Kind::kRaised;
  const std::string type = raised ? "alert_raised" : "alert_resolved";
  const std::string message = fmt::format("{}: {}", alert.rule, raised ? alert.message : alert.resolution);
  const std::string actor = alert.actor.empty() ? "supervisor" : alert.actor;
  LogInfo(message,
          {{"service", alert.service_id}, {"event", type}, {"severity", std::string(SeverityName(alert.severity))}});
  store_.LogEvent({.id = 0,
                   .service_id = alert.service_id,
                   .event_type = type,
                   .timestamp = raised ? alert.raised : *alert.resolved,
                   .message = message,
                   .details = Details(alert),
                   .actor = actor});
  if (outlets_.notify) {
    outlets_.notify(alert, labels);
  }
}

std::vector<Alert> AlertKeeper::open() const {
  std::vector<Alert> alerts;
  for (const auto& [key, alert] : book_.open()) {
    alerts.push_back(alert);
  }
  std::ranges::stable_sort(alerts, {}, &Alert::raised);
  return alerts;
}

}  // namespace supervisor
