#pragma once

#include <grpcpp/support/status.h>

#include <functional>
#include <string>
#include <utility>

#include "daemon/loop/patience.h"

namespace supervisor {

// What asks the database answers in time, with what there is without it, whatever the disk does: see WithPatience.
template <typename T>
WithPatience<T> FromStore(Loop& loop, std::function<void(absl::StatusOr<T>)> done) {
  return WithPatience<T>(loop, absl::Seconds(5), "the database did not answer in time", std::move(done));
}

// To callers the codes of the store mean something else: a locked database is no daemon that cannot be reached, and a
// read-only one does not say that they may not ask. Only that the daemon stops is worth another attempt.
inline grpc::Status StoreTrouble(const absl::Status& status) {
  return {absl::IsCancelled(status) ? grpc::StatusCode::UNAVAILABLE : grpc::StatusCode::FAILED_PRECONDITION,
          std::string(status.message())};
}

}  // namespace supervisor
