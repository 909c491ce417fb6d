#pragma once

#include <grpcpp/support/server_callback.h>
#include <re2/re2.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/logs/log_pump.h"
#include "daemon/logs/log_reader.h"
#include "daemon/rpc/streams.h"
#include "supervisor/v1/supervisor.pb.h"

namespace supervisor {

// One `logs` call. Reads the files, not the pump's memory: what it holds is one chunk, however slow its reader is, and
// it disturbs nobody. All but the constructor and gRPC's callbacks runs on one worker; it deletes itself when gRPC is
// done with it and the worker too.
class LogsCall final : public grpc::ServerWriteReactor<v1::LogChunk>, public std::enable_shared_from_this<LogsCall> {
 public:
  struct Source {
    std::string id;
    std::string stream;  // the pump's name for it
    std::string file;
  };
  static LogsCall* Make(Worker& worker, StreamRegistry& registry, LogPump& logs, const v1::LogsRequest& request);

  // Any thread; one of them, once.
  void Begin(std::vector<Source> sources);
  void Refuse(const grpc::Status& status);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  LogsCall(Worker& worker, StreamRegistry& registry, LogPump& logs, const v1::LogsRequest& request);

  struct Reading {
    Source source;
    LogReader reader;
    std::unique_ptr<LogPump::Subscription> subscription;
    std::string partial;  // with grep: a line whose end has not come yet
    uint64_t missed_told = 0;
  };

  void Post(void (LogsCall::*step)());
  void Open();
  void Flushed();
  void Pump();
  bool FillChunk(Reading& reading);
  std::string KeepMatches(Reading& reading, const std::string& data) const;
  void End(const grpc::Status& status);

  Worker& worker_;
  StreamRegistry& registry_;
  LogPump& logs_;
  const v1::LogsRequest request_;
  std::optional<re2::RE2> pattern_;
  std::vector<Source> sources_;
  std::vector<std::unique_ptr<Reading>> readings_;
  size_t turn_ = 0;
  size_t flushes_left_ = 0;
  v1::LogChunk chunk_;
  bool opened_ = false;
  bool writing_ = false;
  bool finished_ = false;
  std::shared_ptr<LogsCall> self_;
};

}  // namespace supervisor
