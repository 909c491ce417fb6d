#include "daemon/rpc/log_workers.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "common/clock.h"

namespace supervisor {
namespace {

// So much a second captured is a flood: nobody reads that by the line.
constexpr double kFloodBytesPerSecond = 64.0 * (1 << 20);
// What followers get of a flood, all together, for each processor beyond the first: some hundredths of its time, with
// gRPC's and the clients' share.
constexpr double kPacedBytesPerSecond = 12.0 * (1 << 20);
constexpr int64_t kLookEveryNs = 10'000'000;

}  // namespace

void LogWorkers::Close() {
  Stop();
  for (Worker* worker : {&bulk_, &search_, &prompt_}) {
    worker->Close();
  }
}

Worker& LogWorkers::For(Lane lane) {
  switch (lane) {
    case Lane::kPrompt:
      return prompt_;
    case Lane::kSearch:
      return search_;
    case Lane::kBulk:
      return bulk_;
  }
  return prompt_;
}

bool LogWorkers::Flooded() {
  const int64_t now = absl::ToInt64Nanoseconds(MonotonicNow());
  if (now - seen_at_ns_ >= kLookEveryNs) {
    const uint64_t bytes = logs_.TotalBytes();
    const double seconds = static_cast<double>(now - seen_at_ns_) * 1e-9;
    flooded_ = static_cast<double>(bytes - seen_bytes_) >= kFloodBytesPerSecond * seconds;
    seen_bytes_ = bytes;
    seen_at_ns_ = now;
  }
  return flooded_;
}

void LogWorkers::Pace(uint64_t bytes) {
  if (!Flooded()) {
    return;
  }
  static const double rate = kPacedBytesPerSecond * std::max(1U, std::thread::hardware_concurrency() - 1);
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, std::chrono::duration<double>(static_cast<double>(bytes) / rate), [this] { return stopped_; });
}

void LogWorkers::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  wake_.notify_all();
}

}  // namespace supervisor
