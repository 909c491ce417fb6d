#include "daemon/rpc/logs_call.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

#include "common/clock.h"

namespace supervisor {
namespace {

constexpr size_t kChunkBytes = 32u << 10;
constexpr size_t kSmallestChunkBytes = 4u << 10;
constexpr size_t kSearchBytes = 1u << 20;  // of one log in one turn, when nothing matches
constexpr int64_t kLatest = std::numeric_limits<int64_t>::max();

}  // namespace

LogsCall* LogsCall::Make(std::shared_ptr<LogWorkers> workers, StreamRegistry& registry, LogPump& logs,
                         const v1::LogsRequest& request) {
  std::shared_ptr<LogsCall> stream(new LogsCall(std::move(workers), registry, logs, request));
  stream->self_ = stream;
  const bool added = registry.Add(stream.get(), [weak = std::weak_ptr<LogsCall>(stream)] {
    if (const std::shared_ptr<LogsCall> alive = weak.lock()) {
      alive->Note(kDaemonEnds);
    }
  });
  if (!added) {
    stream->Note(kDaemonEnds);
  }
  return stream.get();
}

LogsCall::LogsCall(std::shared_ptr<LogWorkers> workers, StreamRegistry& registry, LogPump& logs,
                   const v1::LogsRequest& request)
    : workers_(std::move(workers)),
      registry_(registry),
      logs_(logs),
      request_(request),
      follow_(request.follow() && request.until_unix_ms() == 0) {}

// ------------------------------------------------------------------------------------------------ turns, one at a time

void LogsCall::Note(uint32_t facts) {
  if ((facts_.fetch_or(facts | kTurnIsDue) & kTurnIsDue) == 0) {
    Schedule();
  }
}

void LogsCall::Schedule() {
  workers_->For(lane_).Post([self = shared_from_this()] { self->Turn(); });
}

void LogsCall::Turn() {
  Handle(facts_.exchange(kTurnIsDue));
  uint32_t nothing_more = kTurnIsDue;
  if (!facts_.compare_exchange_strong(nothing_more, 0)) {
    Schedule();  // behind those who wait for theirs
  }
}

void LogsCall::Handle(uint32_t facts) {
  if ((facts & kWritten) != 0) {
    writing_ = false;
  }
  if ((facts & kReaderGone) != 0) {
    End({grpc::StatusCode::CANCELLED, "the reader has gone"});
  } else if ((facts & kDaemonEnds) != 0) {
    End({grpc::StatusCode::UNAVAILABLE, "the daemon is ending"});
  } else if ((facts & kRefused) != 0) {
    End(refusal_);
  }
  if (finished_) {
    return;
  }
  if ((facts & kBegun) != 0) {
    if (const grpc::Status prepared = Prepare(); !prepared.ok()) {
      End(prepared);
      return;
    }
    AwaitFlushes();
  }
  if ((facts & kFlushed) != 0) {
    Open();
  }
  if ((facts & (kAdded | kFlushed)) != 0 && opened_) {
    TakeAdded();
  }
  Advance();
}

// ------------------------------------------------------------------------------------------------ what is noted

void LogsCall::Begin(Start start) {
  start_ = std::move(start);
  Note(kBegun);
}

void LogsCall::Add(Additions additions) {
  {
    const std::lock_guard lock(added_mutex_);
    added_.emplace_back(std::move(additions), absl::ToUnixMillis(WallNow()));
  }
  Note(kAdded);
}

void LogsCall::Refuse(const grpc::Status& status) {
  refusal_ = status;
  Note(kRefused);
}

void LogsCall::OnWriteDone(bool ok) { Note(ok ? kWritten : kReaderGone); }

void LogsCall::OnCancel() { Note(kReaderGone); }

void LogsCall::OnDone() {
  registry_.Remove(this);
  const std::shared_ptr<LogsCall> last = std::move(self_);  // goes at the end of this, or with the workers' last task
}

// ------------------------------------------------------------------------------------------------ going on

bool LogsCall::Matches(std::string_view line) const {
  return re2::RE2::PartialMatch(re2::StringPiece(line.data(), line.size()), *pattern_);
}

void LogsCall::Advance() {
  if (!opened_ || finished_ || writing_) {
    return;
  }
  if (SendNotice()) {
    return;
  }
  hungry_ = follow_;  // before the last look, so that what comes after it is told
  const bool was_merging = merging_;
  const Got got = Fetch();
  if (got == Got::kFailed) {
    return;
  }
  Reading* const chosen = got == Got::kMoreToSearch ? nullptr : Choose();
  if (chosen != nullptr) {
    hungry_ = false;
    const uint64_t bytes = chosen->ahead->data.size();
    const Lane lane = lane_.exchange(bytes >= ChunkBytes() ? Lane::kBulk : Lane::kPrompt);
    if (lane != Lane::kBulk && lane_ == Lane::kBulk) {
      Note(kGrown);  // it is for the other lane to send
      return;
    }
    Send(*chosen);
    if (lane == Lane::kBulk) {
      workers_->Pace(bytes);
    }
  } else if (got == Got::kMoreToSearch || was_merging != merging_) {
    hungry_ = false;
    lane_ = Lane::kSearch;
    Note(kGrown);
  } else if (!follow_) {
    End(grpc::Status::OK);
  } else {
    lane_ = Lane::kPrompt;
  }
}

// Of every log a piece while they are put in order, else the first one that there is.
LogsCall::Got LogsCall::Fetch() {
  Got all = Got::kNothing;
  for (size_t i = 0; i < readings_.size(); ++i) {
    Reading& reading = *readings_[(turn_ + i) % readings_.size()];
    const Got got = reading.ahead ? Got::kPiece : FetchOne(reading);
    if (got == Got::kFailed || (got == Got::kPiece && !merging_)) {
      return got;
    }
    all = got == Got::kNothing || all == Got::kMoreToSearch ? all : got;
  }
  return all;
}

// Which one's piece goes first: the oldest as long as what the logs hold is put in order, and then each in turn.
LogsCall::Reading* LogsCall::Choose() {
  merging_ =
      merging_ && !std::all_of(readings_.begin(), readings_.end(), [](const auto& reading) { return reading->at_end; });
  Reading* chosen = nullptr;
  for (size_t i = 0; i < readings_.size(); ++i) {
    const size_t index = (turn_ + i) % readings_.size();
    Reading& reading = *readings_[index];
    if (!reading.ahead) {
      continue;
    }
    const auto time_of = [](const Reading& of) {
      return of.ahead->data.empty() ? 0 : of.ahead->time_ms.value_or(kLatest);
    };
    if (chosen == nullptr || (merging_ && time_of(reading) < time_of(*chosen))) {
      chosen = &reading;
    }
    if (!merging_) {
      turn_ = index + 1;
      break;
    }
  }
  return chosen;
}

LogsCall::Got LogsCall::FetchOne(Reading& reading) {
  // Several logs in order: what is at its end now stays behind those that are not.
  if (merging_ ? reading.at_end : !reading.grown.exchange(false)) {
    return Got::kNothing;
  }
  const Got got = ReadPiece(reading);
  if (got == Got::kNothing) {
    reading.at_end = true;
  } else {
    reading.grown = true;  // there may be more
  }
  return got;
}

size_t LogsCall::ChunkBytes() const {
  return std::max(kChunkBytes / std::max<size_t>(readings_.size(), 1), kSmallestChunkBytes);
}

LogsCall::Got LogsCall::ReadPiece(Reading& reading) {
  const size_t chunk_bytes = ChunkBytes();
  for (size_t searched = 0; searched < kSearchBytes;) {
    absl::StatusOr<std::string> data = reading.reader.Read(chunk_bytes);
    if (!data.ok() && !absl::IsNotFound(data.status())) {
      if (!absl::IsDataLoss(data.status())) {
        End({grpc::StatusCode::INTERNAL, std::string(data.status().message())});
        return Got::kFailed;
      }
      // A damaged file ends where it is damaged; the newer ones are read all the same.
      reading.ahead = Piece{.notice = std::string(data.status().message())};
      reading.ahead->next = reading.reader.position();
      return Got::kPiece;
    }
    Piece piece;
    piece.missed = reading.reader.missed_bytes() - std::exchange(reading.missed_told, reading.reader.missed_bytes());
    const uint64_t gaps_before = std::exchange(reading.gaps_told, reading.reader.unknown_gaps());
    if (reading.gaps_told > gaps_before && piece.missed == 0) {
      piece.notice = "bytes of the log may be left out here: files were rotated away before they were read";
    }
    piece.time_ms = reading.reader.read_time_ms();
    if (!data.ok() || (data->empty() && piece.missed == 0 && piece.notice.empty())) {
      // A last line without an end, when no more of it is to come.
      if (follow_ || reading.partial.empty() || !Matches(reading.partial)) {
        return Got::kNothing;
      }
      piece.data = std::exchange(reading.partial, {});
      reading.ahead = std::move(piece);
      return Got::kPiece;
    }
    searched += data->size();
    piece.offset = reading.reader.offset() - std::min<uint64_t>(reading.reader.offset(), data->size());
    piece.data = pattern_ ? KeepMatches(reading, *std::move(data)) : *std::move(data);
    if (piece.data.empty() && piece.missed == 0 && piece.notice.empty()) {
      continue;
    }
    piece.next = reading.reader.position();
    piece.next.offset -= std::min<uint64_t>(piece.next.offset, reading.partial.size());
    reading.ahead = std::move(piece);
    return Got::kPiece;
  }
  return Got::kMoreToSearch;
}

std::string LogsCall::KeepMatches(Reading& reading, std::string data) const {
  if (!reading.partial.empty()) {
    data.insert(0, std::exchange(reading.partial, {}));
  }
  std::string kept;
  size_t begin = 0;
  for (size_t end = 0; (end = data.find('\n', begin)) != std::string::npos; begin = end + 1) {
    if (Matches(std::string_view(data).substr(begin, end - begin))) {
      kept.append(data, begin, end + 1 - begin);
    }
  }
  reading.partial = data.substr(begin);
  if (reading.partial.size() > kLongestLine) {
    // So long that memory would grow without bound: taken in pieces, each as a line of its own.
    if (Matches(reading.partial)) {
      kept += reading.partial;
    }
    reading.partial.clear();
  }
  return kept;
}

bool LogsCall::SendNotice() {
  if (notices_.empty()) {
    return false;
  }
  chunk_.Clear();
  chunk_.set_id(notices_.front().first);
  chunk_.set_stream(request_.stderr() ? v1::LOG_STREAM_STDERR : v1::LOG_STREAM_STDOUT);
  chunk_.set_notice(std::move(notices_.front().second));
  notices_.pop_front();
  hungry_ = false;
  writing_ = true;
  StartWrite(&chunk_);
  return true;
}

void LogsCall::Send(Reading& reading) {
  Piece& piece = *reading.ahead;
  chunk_.Clear();
  chunk_.set_id(reading.source.id);
  chunk_.set_stream(request_.stderr() ? v1::LOG_STREAM_STDERR : v1::LOG_STREAM_STDOUT);
  chunk_.set_offset(piece.offset);
  chunk_.set_missed_bytes(piece.missed);
  chunk_.set_notice(std::move(piece.notice));
  if (request_.times() && !piece.data.empty()) {
    chunk_.set_time_unix_ms(piece.time_ms.value_or(absl::ToUnixMillis(WallNow())));
  }
  chunk_.set_data(std::move(piece.data));
  v1::LogPosition& next = *chunk_.mutable_next();
  next.set_device(piece.next.file.device);
  next.set_inode(piece.next.file.inode);
  next.set_born_ns(piece.next.file.born_ns);
  next.set_offset(piece.next.offset);
  reading.ahead.reset();
  // However long this takes: a deleted file takes up the disk as long as somebody holds it open.
  reading.reader.Release();
  writing_ = true;
  StartWrite(&chunk_);
}

void LogsCall::End(const grpc::Status& status) {
  if (!std::exchange(finished_, true)) {
    readings_.clear();
    Finish(status);
  }
}

}  // namespace supervisor
