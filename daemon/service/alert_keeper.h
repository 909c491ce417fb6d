#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/config/config.h"
#include "daemon/loop/loop.h"
#include "daemon/notify/alert_book.h"
#include "daemon/store/store.h"

namespace supervisor {

// The alerts in force: feeds the book with what happens, asks it shortly after, and sees to what it says: a row in
// supervisor_alerts, an event, a notification. What an earlier daemon left open is taken up from the database. Loop
// thread.
class AlertKeeper {
 public:
  struct Outlets {
    std::function<std::vector<AlertSubject>()> subjects;
    std::function<void(const Alert&)> notify;  // raised, and resolved; must not block
  };
  AlertKeeper(Loop& loop, Store& store, Outlets outlets);
  ~AlertKeeper() = default;
  AlertKeeper(const AlertKeeper&) = delete;
  AlertKeeper& operator=(const AlertKeeper&) = delete;

  void Configure(const AlertRulesConfig& rules, const NotificationsConfig& notifications);
  // Reads what is open; until that is known nothing is raised. Once.
  void Begin();

  // An event of an instance.
  void OnRecord(const std::string& id, std::string_view type, const std::string& message);
  void OnSample(const std::string& id, double cpu_percent, double memory_mb);
  // Some instance may stand elsewhere now.
  void OnChange();
  // Trouble of the daemon itself; an empty text: over.
  void OnDatabase(const std::string& trouble);
  void OnChannel(const std::string& label, const std::string& trouble);

  // Now, not shortly: the daemon is about to end.
  void Settle();

  std::vector<Alert> open() const;

 private:
  void Load();
  void LoadRestarts(std::vector<AlertRow> open);
  void Finish(const std::vector<AlertRow>& open, const std::vector<RestartRow>& restarts);
  void RetryLoad(const std::string& why);
  void SettleSoon();
  void Tell(const AlertBook::Change& change);

  Loop& loop_;
  Store& store_;
  Outlets outlets_;
  AlertBook book_;
  AlertRulesConfig rules_;
  std::vector<std::string> channels_;  // labels
  absl::Time began_;
  int loads_ = 0;
  std::unique_ptr<Loop::Timer> timer_;
  std::unique_ptr<Loop::Timer> load_timer_;
  MonoTime armed_ = kNoDeadline;
  std::shared_ptr<bool> alive_;  // for answers of the store that come late
};

}  // namespace supervisor
