#include "daemon/rpc/logs_call.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace supervisor {
namespace {

constexpr size_t kChunkSize = 65536;
constexpr uint64_t kDefaultLines = 10;
constexpr size_t kLongestGrepLine = 1 << 20;
constexpr absl::Duration kFlushWait = absl::Milliseconds(200);

}  // namespace

LogsCall* LogsCall::Make(Worker& worker, StreamRegistry& registry, LogPump& logs, const v1::LogsRequest& request) {
  std::shared_ptr<LogsCall> stream(new LogsCall(worker, registry, logs, request));
  stream->self_ = stream;
  registry.Add(stream.get(), [weak = std::weak_ptr<LogsCall>(stream)] {
    if (const std::shared_ptr<LogsCall> alive = weak.lock()) {
      alive->worker_.Post([alive] { alive->End({grpc::StatusCode::UNAVAILABLE, "the daemon is ending"}); });
    }
  });
  return stream.get();
}

LogsCall::LogsCall(Worker& worker, StreamRegistry& registry, LogPump& logs, const v1::LogsRequest& request)
    : worker_(worker), registry_(registry), logs_(logs), request_(request) {}

void LogsCall::Post(void (LogsCall::*step)()) {
  worker_.Post([self = shared_from_this(), step] { (self.get()->*step)(); });
}

void LogsCall::Refuse(const grpc::Status& status) {
  worker_.Post([self = shared_from_this(), status] { self->End(status); });
}

void LogsCall::Begin(std::vector<Source> sources) {
  sources_ = std::move(sources);
  Post(&LogsCall::Open);
}

void LogsCall::Open() {
  if (!request_.grep().empty()) {
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_encoding(re2::RE2::Options::EncodingLatin1);  // logs are bytes
    pattern_.emplace(request_.grep(), options);
    if (!pattern_->ok()) {
      End({grpc::StatusCode::INVALID_ARGUMENT,
           fmt::format("--grep {}: {} (RE2 syntax)", request_.grep(), pattern_->error())});
      return;
    }
  }
  for (const Source& source : sources_) {
    auto reading = std::make_unique<Reading>(Reading{source, LogReader(source.file), nullptr, {}, 0});
    const absl::Status status =
        reading->reader.SeekToLastLines(request_.has_lines() ? request_.lines() : kDefaultLines);
    if (!status.ok() && !absl::IsNotFound(status)) {
      End({grpc::StatusCode::INTERNAL, std::string(status.message())});
      return;
    }
    if (request_.follow()) {
      reading->subscription = logs_.Subscribe(source.stream, [weak = weak_from_this()](const std::string&) {
        if (const std::shared_ptr<LogsCall> self = weak.lock()) {
          self->Post(&LogsCall::Pump);
        }
      });
    }
    readings_.push_back(std::move(reading));
  }
  opened_ = true;
  flushes_left_ = readings_.size();
  // What the services wrote before the call is to be in the answer: the pump may still have to move it.
  for (const auto& reading : readings_) {
    logs_.Flush(reading->source.stream, kFlushWait, [self = shared_from_this()] { self->Post(&LogsCall::Flushed); });
  }
  Pump();
}

void LogsCall::Flushed() {
  --flushes_left_;
  Pump();
}

void LogsCall::Pump() {
  if (!opened_ || writing_ || finished_) {
    return;
  }
  // In turn where several are followed; one after the other where they are only shown.
  for (size_t i = 0; i < readings_.size(); ++i) {
    const size_t index = request_.follow() ? (turn_ + i) % readings_.size() : i;
    if (FillChunk(*readings_[index])) {
      turn_ = index + 1;
      writing_ = true;
      StartWrite(&chunk_);
      return;
    }
  }
  if (!request_.follow() && flushes_left_ == 0) {
    End(grpc::Status::OK);
  }
}

bool LogsCall::FillChunk(Reading& reading) {
  for (;;) {
    const absl::StatusOr<std::string> data = reading.reader.Read(kChunkSize);
    if (!data.ok()) {
      if (absl::IsNotFound(data.status())) {
        return false;
      }
      End({grpc::StatusCode::INTERNAL, std::string(data.status().message())});
      return false;
    }
    const uint64_t missed =
        reading.reader.missed_bytes() - std::exchange(reading.missed_told, reading.reader.missed_bytes());
    if (data->empty() && missed == 0) {
      // A last line without an end, when no more of it is to come.
      if (request_.follow() || flushes_left_ > 0 || reading.partial.empty()) {
        return false;
      }
      chunk_.Clear();
      chunk_.set_id(reading.source.id);
      const bool matches = re2::RE2::PartialMatch(reading.partial, *pattern_);
      chunk_.set_data(std::exchange(reading.partial, {}));
      return matches;
    }
    std::string kept = pattern_ ? KeepMatches(reading, *data) : *data;
    if (kept.empty() && missed == 0) {
      continue;
    }
    chunk_.Clear();
    chunk_.set_id(reading.source.id);
    chunk_.set_stream(request_.stderr() ? v1::LOG_STREAM_STDERR : v1::LOG_STREAM_STDOUT);
    chunk_.set_offset(reading.reader.offset() - std::min<uint64_t>(reading.reader.offset(), data->size()));
    chunk_.set_missed_bytes(missed);
    chunk_.set_data(std::move(kept));
    return true;
  }
}

std::string LogsCall::KeepMatches(Reading& reading, const std::string& data) const {
  std::string kept;
  reading.partial += data;
  size_t begin = 0;
  for (size_t end = 0; (end = reading.partial.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const re2::StringPiece line(reading.partial.data() + begin, end - begin);
    if (re2::RE2::PartialMatch(line, *pattern_)) {
      kept.append(reading.partial, begin, end + 1 - begin);
    }
  }
  reading.partial.erase(0, begin);
  if (reading.partial.size() > kLongestGrepLine) {
    reading.partial.clear();  // no line that anybody greps for; memory stays bounded
  }
  return kept;
}

void LogsCall::End(const grpc::Status& status) {
  if (!std::exchange(finished_, true)) {
    readings_.clear();
    Finish(status);
  }
}

void LogsCall::OnWriteDone(bool ok) {
  worker_.Post([self = shared_from_this(), ok] {
    self->writing_ = false;
    if (!ok) {
      self->End({grpc::StatusCode::CANCELLED, "the reader has gone"});
      return;
    }
    self->Pump();
  });
}

void LogsCall::OnCancel() {
  worker_.Post([self = shared_from_this()] { self->End({grpc::StatusCode::CANCELLED, "cancelled"}); });
}

void LogsCall::OnDone() {
  registry_.Remove(this);
  const std::shared_ptr<LogsCall> last = std::move(self_);  // goes at the end of this, or with the worker's last task
}

}  // namespace supervisor
