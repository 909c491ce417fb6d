#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "daemon/logs/log_pump.h"
#include "daemon/loop/worker.h"

namespace supervisor {

// The threads that read logs for `logs` calls: one for what is to be told at once (a line that has just come, the last
// ten lines), one for searches (by time, by an expression), one for whoever takes much (a follower far behind, a whole
// log). So nobody's line waits for what takes long.
//
// While services flood, the last one paces itself: two hundred followers of a flood would else take the processors
// from the capture, and from the service itself. (A low priority would not do: the work is mostly gRPC's and the
// clients', and threads that gRPC starts from a thread of low priority keep that for good.) Thread-safe.
class LogWorkers {
 public:
  explicit LogWorkers(LogPump& logs) : logs_(logs) {}
  ~LogWorkers() = default;
  LogWorkers(const LogWorkers&) = delete;
  LogWorkers& operator=(const LogWorkers&) = delete;

  enum class Lane { kPrompt, kSearch, kBulk };
  Worker& For(Lane lane);

  // On the bulk lane's thread, which has just sent so many bytes.
  void Pace(uint64_t bytes);
  // Nobody is paced any more.
  void Stop();
  // Every thread has ended when this returns, and what is posted later is dropped: a call that has ended and still
  // waits for the log pump to say so holds us until then. To be called once, before whoever made us lets go.
  void Close();

 private:
  bool Flooded();

  LogPump& logs_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopped_ = false;
  // The bulk lane's: what was captured when it looked last, and whether that was a flood.
  uint64_t seen_bytes_ = 0;
  int64_t seen_at_ns_ = 0;
  bool flooded_ = false;
  Worker prompt_;
  Worker search_;
  Worker bulk_;
};

}  // namespace supervisor
