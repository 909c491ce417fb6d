#include "daemon/notify/alert_repeats.h"

#include <algorithm>
#include <utility>

namespace supervisor {

void AlertRepeats::SetInterval(absl::Duration interval, const AlertBook::Alerts& open, AlertTime now) {
  if (interval == interval_) {
    return;
  }
  interval_ = interval;
  due_.clear();
  for (const auto& [key, alert] : open) {
    Opened(alert, now);
  }
}

void AlertRepeats::Opened(const Alert& alert, AlertTime now) {
  if (interval_ > absl::ZeroDuration()) {
    due_.insert_or_assign(Key(alert.service_id, alert.rule), DueAfter(alert.raised, now));
  }
}

void AlertRepeats::Closed(const Alert& alert) { due_.erase(Key(alert.service_id, alert.rule)); }

MonoTime AlertRepeats::Next() const {
  const auto first = std::ranges::min_element(due_, {}, [](const auto& entry) { return entry.second; });
  return first == due_.end() ? kNoDeadline : first->second;
}

std::vector<Alert> AlertRepeats::TakeDue(const AlertBook::Alerts& open, AlertTime now) {
  std::vector<Alert> alerts;
  for (auto& [key, due] : due_) {
    const auto found = open.find(key);
    if (due > now.mono || found == open.end()) {
      continue;
    }
    absl::Duration rest;
    due += interval_ * (absl::IDivDuration(now.mono - due, interval_, &rest) + 1);  // of several that were missed, one
    Alert alert = found->second;
    // The two clocks may have drifted apart a little: what is nearly a whole step is one.
    constexpr int kTolerated = 10;
    const absl::Duration age = now.wall - alert.raised + interval_ / kTolerated;
    alert.repeats = std::max<int64_t>(1, absl::IDivDuration(age, interval_, &rest));
    alerts.push_back(std::move(alert));
  }
  return alerts;
}

// In (0, interval], also where the clock was set back behind the time of the alert.
MonoTime AlertRepeats::DueAfter(absl::Time raised, AlertTime now) const {
  const absl::Duration age = std::max(now.wall - raised, absl::ZeroDuration());
  absl::Duration into_the_step;
  absl::IDivDuration(age, interval_, &into_the_step);
  return now.mono + interval_ - into_the_step;
}

}  // namespace supervisor
