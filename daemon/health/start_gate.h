#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include "absl/time/time.h"
#include "common/clock.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// Lets in two at a time, in the order they came, and pauses after each: of a thousand scripts that are due at once a
// few come up at any moment, and who else wants the processor (another check, a stop, the services) waits behind those
// few only. The more the machine has to do, the longer a start takes, the longer the pause.
//
// Who stays too long, since his file system hangs, loses his place to the next: no limit to how many may hang.
// Loop thread.
class StartGate {
 public:
  static constexpr size_t kPlaces = 2;

  // `patience`: how long one may stay.
  explicit StartGate(Loop& loop, absl::Duration patience = absl::Milliseconds(25));
  ~StartGate();
  StartGate(const StartGate&) = delete;
  StartGate& operator=(const StartGate&) = delete;

  using Go = std::function<void(uint64_t visit)>;
  // Calls `go`, now or on a later turn, unless `wanted` has expired by then.
  void Enter(std::weak_ptr<const void> wanted, Go go);
  // The visit's work is done. Too late is no harm.
  void Leave(uint64_t visit);

 private:
  struct Place {
    bool taken = false;  // or pausing
    uint64_t visit = 0;  // 0: none
    MonoTime since;
    std::unique_ptr<Loop::Timer> vacate;
  };
  struct Waiting {
    std::weak_ptr<const void> wanted;
    Go go;
  };
  void Vacate(Place& place);
  void Admit();

  absl::Duration patience_;
  std::array<Place, kPlaces> places_;
  std::deque<Waiting> waiting_;
  uint64_t visits_ = 0;
};

}  // namespace supervisor
