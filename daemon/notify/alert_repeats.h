#pragma once

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "daemon/notify/alert.h"
#include "daemon/notify/alert_book.h"

namespace supervisor {

// When an alert that stays open is told again: each time that a whole number of `repeat_interval` has passed since it
// was raised. So nothing needs to be remembered over the daemon's end: the next one goes on in the same step, and tells
// nothing earlier or later for having been started. Pure.
class AlertRepeats {
 public:
  // Zero: never. What is open falls into the new step.
  void SetInterval(absl::Duration interval, const AlertBook::Alerts& open, AlertTime now);
  void Opened(const Alert& alert, AlertTime now);
  void Closed(const Alert& alert);

  // When TakeDue may have something; kNoDeadline: never.
  MonoTime Next() const;
  // Those that are to be told again, each with the number of its repetition.
  std::vector<Alert> TakeDue(const AlertBook::Alerts& open, AlertTime now);

 private:
  using Key = std::pair<std::string, std::string>;  // as in AlertBook
  MonoTime DueAfter(absl::Time raised, AlertTime now) const;

  absl::Duration interval_;
  std::map<Key, MonoTime> due_;
};

}  // namespace supervisor
