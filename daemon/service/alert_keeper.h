#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "daemon/config/config.h"
#include "daemon/loop/loop.h"
#include "daemon/notify/alert_book.h"
#include "daemon/notify/alert_repeats.h"
#include "daemon/service/machine.h"
#include "daemon/store/store.h"

namespace supervisor {

// The alerts in force: feeds the book with what happens, asks it shortly after, and sees to what it says: a row in
// supervisor_alerts, an event, a notification. What an earlier daemon left open is taken up from the database, and what
// it has not told a channel is told: at least once, whenever the daemon dies. Loop thread.
class AlertKeeper {
 public:
  struct Outlets {
    std::function<std::vector<AlertSubject>()> subjects;
    // Raised, and resolved: for the channels of these labels; must not block.
    std::function<void(const Alert&, const std::vector<std::string>& labels)> notify;
  };
  AlertKeeper(Loop& loop, Store& store, Outlets outlets);
  ~AlertKeeper() = default;
  AlertKeeper(const AlertKeeper&) = delete;
  AlertKeeper& operator=(const AlertKeeper&) = delete;

  void Configure(const AlertRulesConfig& rules, const NotificationsConfig& notifications);
  // Reads what is open; until that is known nothing is raised. Once.
  void Begin();

  void OnRecord(const std::string& id, const RecordEvent& event);
  void OnSample(const std::string& id, uint64_t run, std::optional<double> cpu_percent, double memory_mb);
  // Some instance may stand elsewhere now.
  void OnChange();
  // Trouble of the daemon itself; an empty text: over.
  void OnDatabase(const std::string& trouble);
  void OnChannel(const std::string& label, const std::string& trouble);
  // That channel has been told of these.
  void OnTold(const std::string& label, const std::vector<Alert>& alerts);
  // Its receiver refuses these for good: nobody tells it of them again.
  void OnDropped(const std::string& label, const std::vector<Alert>& alerts, const std::string& why);
  // What of it an administrator should know, a line a channel.
  std::vector<std::string> remarks() const;

  // Now, not shortly: the daemon is about to end.
  void Settle();

  std::vector<Alert> open() const;
  // As the database has it, but for the id.
  AlertRow RowOf(const Alert& alert) const;

 private:
  void Load();
  void LoadRestarts(std::vector<AlertRow> open);
  void LoadOwed();
  void Finish(const std::vector<AlertRow>& open, const std::vector<RestartRow>& restarts);
  void PassOn(const std::vector<ChannelConfig>& channels);
  void Repeat();
  void Settled(const std::string& label, const std::vector<Alert>& alerts);
  void Owe(const Alert& alert, const std::vector<std::string>& labels);
  void TakeUpOwed(const std::vector<AlertRow>& rows);
  std::vector<std::string> ChannelsFor(const Alert& alert) const;
  void RetryLoad(const std::string& why);
  void GiveUpLoad(const std::string& why);
  void SettleSoon();
  void Tell(const AlertBook::Change& change);

  Loop& loop_;
  Store& store_;
  Outlets outlets_;
  AlertBook book_;
  AlertRulesConfig rules_;
  std::vector<ChannelConfig> channel_configs_;
  std::vector<std::string> channels_;  // their labels
  Severity min_severity_ = Severity::kInfo;
  // What some channel has not been told yet, as it is now.
  struct Owed {
    std::optional<absl::Time> resolved;
    std::vector<std::string> labels;
  };
  using AlertKey = std::tuple<std::string, std::string, absl::Time>;  // service, rule, when it was raised
  static AlertKey KeyOf(const Alert& alert) { return {alert.service_id, alert.rule, alert.raised}; }
  std::map<AlertKey, Owed> owed_;
  struct Dropped {
    uint64_t count = 0;
    std::string why;  // of the last
  };
  std::map<std::string, Dropped> dropped_;  // by label, since this daemon began
  AlertRepeats repeats_;
  absl::Time began_;
  int loads_ = 0;
  bool waits_for_load_ = false;
  std::unique_ptr<Loop::Timer> timer_;
  std::unique_ptr<Loop::Timer> load_timer_;
  std::unique_ptr<Loop::Timer> repeat_timer_;
  MonoTime armed_ = kNoDeadline;
  std::shared_ptr<bool> alive_;  // for answers of the store that come late
};

}  // namespace supervisor
