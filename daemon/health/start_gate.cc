#include "daemon/health/start_gate.h"

#include <algorithm>
#include <utility>

namespace supervisor {
namespace {

constexpr absl::Duration kShortestPause = absl::Milliseconds(3);
constexpr absl::Duration kLongestPause = absl::Milliseconds(20);

}  // namespace

StartGate::StartGate(Loop& loop, absl::Duration patience) : patience_(patience) {
  for (Place& place : places_) {
    place.vacate = loop.NewTimer([this, &place] { Vacate(place); });
  }
}

StartGate::~StartGate() = default;

void StartGate::Enter(std::weak_ptr<const void> wanted, Go go) {
  waiting_.push_back({std::move(wanted), std::move(go)});
  Admit();
}

void StartGate::Leave(uint64_t visit) {
  const auto place = std::ranges::find(places_, visit, &Place::visit);
  if (visit == 0 || place == places_.end()) {
    return;
  }
  place->visit = 0;
  const absl::Duration took = MonotonicNow() - place->since;
  place->vacate->ArmAfter(std::clamp(2 * took, kShortestPause, kLongestPause));
}

void StartGate::Vacate(Place& place) {
  place.taken = false;
  place.visit = 0;
  Admit();
}

void StartGate::Admit() {
  while (!waiting_.empty()) {
    const auto place = std::ranges::find(places_, false, &Place::taken);
    if (place == places_.end()) {
      return;
    }
    const Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    if (!next.wanted.expired()) {
      place->taken = true;
      place->visit = ++visits_;
      place->since = MonotonicNow();
      place->vacate->ArmAfter(patience_);
      next.go(place->visit);
    }
  }
}

}  // namespace supervisor
