#include "daemon/service/notify_budget.h"

#include <algorithm>

namespace supervisor {
namespace {

constexpr absl::Duration kEach = absl::Milliseconds(1000 / NotifyBudget::kASecond);
constexpr absl::Duration kNewsEvery = absl::Minutes(10);

}  // namespace

bool NotifyBudget::Bucket::Take(MonoTime now) {
  const MonoTime until = std::max(spent_until, now) + kEach;
  if (until - now > kAtOnce * kEach) {
    return false;
  }
  spent_until = until;
  return true;
}

bool NotifyBudget::Take(bool is_main_process, MonoTime now) {
  if ((is_main_process ? main_ : others_).Take(now)) {
    return true;
  }
  ++dropped_;
  return false;
}

bool NotifyBudget::IsNews(MonoTime now) {
  if (now < quiet_until_) {
    return false;
  }
  quiet_until_ = now + kNewsEvery;
  return true;
}

}  // namespace supervisor
