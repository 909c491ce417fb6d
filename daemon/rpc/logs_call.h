#pragma once

#include <grpcpp/support/server_callback.h>
#include <re2/re2.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/logs/log_pump.h"
#include "daemon/logs/log_reader.h"
#include "daemon/rpc/log_workers.h"
#include "daemon/rpc/streams.h"
#include "supervisor/v1/supervisor.pb.h"

namespace supervisor {

// One `logs` call. Reads the files, not the pump's memory: what it holds is a chunk of each log, however slow its
// reader is, and it disturbs nobody.
//
// Any thread notes what happened (Fact); one Turn at a time, on one of the workers, makes of it what is to be done. It
// deletes itself when gRPC is done with it and the workers too.
class LogsCall final : public grpc::ServerWriteReactor<v1::LogChunk>, public std::enable_shared_from_this<LogsCall> {
 public:
  struct Source {
    std::string id;
    std::string stream;  // the pump's name for it
    std::string file;
  };
  static LogsCall* Make(std::shared_ptr<LogWorkers> workers, StreamRegistry& registry, LogPump& logs,
                        const v1::LogsRequest& request);

  // Logs to show. What is left out would feed on itself (feed_rule.h), and the reader is told so.
  struct Additions {
    std::vector<Source> sources;
    std::vector<std::string> left_out;
  };
  // What a call begins with.
  struct Start {
    Additions additions;
    // Names that are not configured: of a service that was, the log may still be there. Else the answer is `status`.
    struct Unknown {
      std::string name;
      grpc::Status status;
    };
    std::vector<Unknown> unknown;
    std::string log_directory;
  };

  // Any thread; one of them, once.
  void Begin(Start start);
  void Refuse(const grpc::Status& status);

  // Any thread, after Begin: a follower shows these too, from now on.
  void Add(Additions additions);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  enum Fact : uint32_t {
    kTurnIsDue = 1 << 0,  // a Turn is queued or under way
    kBegun = 1 << 1,
    kRefused = 1 << 2,
    kFlushed = 1 << 3,  // what the services wrote before the call is in their files
    kGrown = 1 << 4,    // there may be more to read
    kWritten = 1 << 5,
    kReaderGone = 1 << 6,
    kDaemonEnds = 1 << 7,
    kAdded = 1 << 8,
  };
  // A piece of a log on its way.
  struct Piece {
    std::string data;
    uint64_t offset = 0;
    uint64_t missed = 0;
    std::optional<int64_t> time_ms;
    LogPosition next;
    std::string notice;
  };
  struct Reading {
    Reading(const Source& of, std::optional<int64_t> from_ms) : source(of), since_ms(from_ms), reader(of.file) {}

    const Source source;
    const std::optional<int64_t> since_ms;  // of one that was added: what was written before is not of interest
    LogReader reader;
    std::atomic<bool> grown{true};  // since it was read to its end
    std::unique_ptr<LogPump::Subscription> subscription;
    std::string partial;         // with grep: a line whose end has not come yet
    std::optional<Piece> ahead;  // read, and waiting for its time
    uint64_t missed_told = 0;
    uint64_t gaps_told = 0;
    bool at_end = false;
  };
  using Lane = LogWorkers::Lane;
  enum class Got { kPiece, kNothing, kMoreToSearch, kFailed };

  LogsCall(std::shared_ptr<LogWorkers> workers, StreamRegistry& registry, LogPump& logs,
           const v1::LogsRequest& request);

  void Note(uint32_t facts);
  void Schedule();
  void Turn();
  void Handle(uint32_t facts);
  grpc::Status Prepare();
  grpc::Status AddRemains();
  void AddReading(const Source& source, std::optional<int64_t> since_ms);
  void TellLeftOut(const std::vector<std::string>& ids);
  void TakeAdded();
  void AwaitFlushes();
  void Open();
  grpc::Status OpenOne(Reading& reading);
  LogSelection Selection(const Reading& reading) const;
  bool SendNotice();
  void Advance();
  Got Fetch();
  Got FetchOne(Reading& reading);
  size_t ChunkBytes() const;
  Got ReadPiece(Reading& reading);
  Reading* Choose();
  void Send(Reading& reading);
  std::string KeepMatches(Reading& reading, std::string data) const;
  bool Matches(std::string_view line) const;
  void End(const grpc::Status& status);

  const std::shared_ptr<LogWorkers> workers_;
  StreamRegistry& registry_;
  LogPump& logs_;
  const v1::LogsRequest request_;
  const bool follow_;

  std::atomic<uint32_t> facts_{0};
  std::atomic<Lane> lane_{Lane::kPrompt};  // which worker the next turn is for
  std::atomic<bool> hungry_{false};        // everything was read: growth is of interest
  std::atomic<size_t> flushes_left_{0};
  std::mutex added_mutex_;
  std::vector<std::pair<Additions, int64_t>> added_;  // with the time of it, milliseconds since the epoch

  // Below: Turn's, one at a time.
  std::optional<re2::RE2> pattern_;
  grpc::Status refusal_;
  Start start_;
  std::deque<std::pair<std::string, std::string>> notices_;  // whose, and what
  std::vector<std::unique_ptr<Reading>> readings_;
  bool merging_ = false;  // what several logs hold is put in the order of its time
  bool opened_ = false;
  bool writing_ = false;
  size_t turn_ = 0;
  v1::LogChunk chunk_;
  bool finished_ = false;
  std::shared_ptr<LogsCall> self_;
};

}  // namespace supervisor
