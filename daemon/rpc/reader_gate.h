#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace supervisor {

// Stands between gRPC and the callers who may only look, and bounds what one user of theirs can make it do. gRPC knows
// no bound on frames by time: a client that opens streams and resets them at once has it allocate faster than it frees
// (CVE-2023-44487), and a hundred megabytes of unfinished requests are within its limits. Callers who may act do not
// come here; their connections are gRPC's alone.
//
// The bytes pass through a thread of the gate's own, unchanged. A user who sends frames too quickly is read from more
// slowly. A connection that goes beyond another bound is hung up on, as is one that sends descriptors along.
class ReaderGate {
 public:
  struct Limits {
    double frames_per_second = 2'000;  // of all connections of one user; a large frame counts for each 4 KB of it
    double burst_frames = 4'000;
    size_t connections = 128;
    size_t open_streams = 512;
    size_t request_bytes = 8u << 20;  // of the streams that are open
  };

  explicit ReaderGate(const Limits& limits);
  ~ReaderGate();  // hangs up on all
  ReaderGate(const ReaderGate&) = delete;
  ReaderGate& operator=(const ReaderGate&) = delete;

  // Takes a non-blocking connection; returns what the server is to be given in its place. One thread; the first call
  // starts the gate's thread.
  absl::StatusOr<UniqueFd> Admit(UniqueFd client, uid_t user);

 private:
  class Impl;
  Limits limits_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace supervisor
