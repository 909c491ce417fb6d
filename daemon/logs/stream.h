#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "daemon/logs/capture.h"
#include "daemon/logs/compressor.h"
#include "daemon/logs/directory_watch.h"
#include "daemon/logs/fifo.h"
#include "daemon/logs/forwarder.h"
#include "daemon/logs/growth_hub.h"
#include "daemon/logs/log_pump.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// One stream on the pump's loop: when to move bytes, when to wait, when to drop, whom to tell. The pump's thread.
//
//   state        FIFO watched   a write fails / the file cannot be opened         it works again
//   kCapturing   yes            -> kWaiting (-> kDropping soon after a trouble)
//   kWaiting     no             tried every 100 ms; after 1 s -> kDropping        -> kCapturing, nothing was lost
//   kDropping    yes            waiting bytes are dropped; tried every 500 ms     -> kCapturing, at a line end
// So a full disk holds up the service for a second at most, and once.
// Where the forwarder keeps how far it came with the log of `stream`: beside its FIFO.
std::string ForwardMarkFile(const LogStreamOptions& options, const std::string& stream);

class LogStream : public std::enable_shared_from_this<LogStream> {
 public:
  // Written here, read by any thread.
  struct SharedStats {
    std::mutex mutex;
    LogStreamStats stats;
  };
  // What the streams of one pump have in common; outlives them.
  struct Surroundings {
    Loop& loop;
    PipePeek& peek;
    DirectoryWatch& directories;
    Compressor& compressor;
    LogPump::TroubleCallback on_trouble;
    LogPump::FifoCallback on_fifo;
    LogPump::RemadeCallback on_remade;
    LogPump::TakeFifoCallback take_fifo;
    Forwarder& forwarder;
    std::atomic<uint64_t>& total_bytes;  // captured of all streams
  };

  LogStream(Surroundings& surroundings, std::string name, std::shared_ptr<SharedStats> shared,
            std::shared_ptr<GrowthHub> hub);
  ~LogStream();
  LogStream(const LogStream&) = delete;
  LogStream& operator=(const LogStream&) = delete;

  // Begins to capture, or goes on with other options. kNoFifo: nothing is captured. A file that cannot be opened is a
  // trouble like any later one: the FIFO is emptied, so that an adopted service does not hang, and the file tried.
  enum class Opened { kYes, kFileFailed, kNoFifo };
  Opened Open(const LogStreamOptions& options, absl::Status& why);
  absl::StatusOr<UniqueFd> NewWriteEnd() const;

  void Reopen();
  void Flush(absl::Duration timeout, std::function<void()> done);
  // Moves what waits now, and returns when that is done, fails, or the time has come.
  void Drain(MonoTime deadline);
  void RemoveFifo() const;
  // Its log is forwarded to its present end, and no further.
  void ForwardNoMore() const { around_.forwarder.Remove(name_); }

  // A name went from a watched directory; see DirectoryWatch.
  void NameGone(int directory, const std::string& name);

 private:
  // What one stream may move before the others have their turn: a quarter of a millisecond's work.
  static constexpr uint64_t kTurnBytes = 256u << 10;

  enum class State { kCapturing, kWaiting, kDropping };
  struct PendingFlush {
    uint64_t target = 0;  // of consumed_
    std::function<void()> done;
    std::unique_ptr<Loop::Timer> timer;
  };

  void OnReadable();
  void Account(const Capture::Result& result);
  void Settle(const Capture::Result& result);
  void SettleFlushes();
  void TellGrowth();
  void AdaptCapacity(uint64_t waiting);
  void ShrinkWhenIdle();

  void StopFor(const absl::Status& why);
  void Retry();
  void EnterDropping();
  void Resume();
  void CheckFile();
  void ArmCheck();
  void ShowError();
  void TellRemade();
  void SetForwarding();
  void WatchFifo();
  void WatchDirectory();

  void TidyRotatedFiles();
  void RemoveCutCompression(int dir_fd);
  void StartCompression();
  bool IsForCompression(int dir_fd, int index);
  void FinishCompression(const absl::Status& result, const FileId& original);

  Surroundings& around_;
  const std::string name_;
  const std::shared_ptr<SharedStats> shared_;
  const std::shared_ptr<GrowthHub> hub_;
  LogStreamOptions options_;
  std::unique_ptr<Fifo> fifo_;
  std::unique_ptr<Capture> capture_;
  std::unique_ptr<Loop::Watch> watch_;

  State state_ = State::kCapturing;
  std::string write_error_;
  std::string shown_error_;
  std::string access_error_told_;
  uint64_t remade_told_ = 0;
  bool try_due_ = false;  // kDropping: nothing waited when it was time to try; what comes next is tried
  MonoTime trouble_since_ = absl::ZeroDuration();
  MonoTime trouble_ended_ = -absl::InfiniteDuration();
  std::unique_ptr<Loop::Timer> retry_timer_;
  std::unique_ptr<Loop::Timer> check_timer_;
  bool check_armed_ = false;

  uint64_t consumed_ = 0;  // bytes taken from the FIFO, kept or dropped
  std::list<PendingFlush> flushes_;

  MonoTime told_at_ = -absl::InfiniteDuration();
  bool growth_armed_ = false;
  std::unique_ptr<Loop::Timer> growth_timer_;

  size_t capacity_ = 0;
  uint64_t consumed_when_grown_ = 0;
  MonoTime grow_again_at_ = -absl::InfiniteDuration();
  std::unique_ptr<Loop::Timer> shrink_timer_;

  int watched_directory_ = DirectoryWatch::kNone;
  FileId watched_id_;
  bool has_watched_ = false;
  bool compressing_ = false;
  bool compression_hindered_told_ = false;
};

}  // namespace supervisor
