// LogsCall: which logs it shows, and where in each it begins.

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "daemon/logs/log_remains.h"
#include "daemon/rpc/logs_call.h"

namespace supervisor {
namespace {

constexpr uint64_t kDefaultLines = 10;
constexpr size_t kLongestPattern = 4096;  // what a reader's pattern may cost is bounded by this and RE2's own limits
constexpr absl::Duration kFlushWait = absl::Milliseconds(200);

}  // namespace

grpc::Status LogsCall::Prepare() {
  if (request_.grep().size() > kLongestPattern) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            fmt::format("--grep: a pattern of {} bytes is too long (expected at most {})", request_.grep().size(),
                        kLongestPattern)};
  }
  if (!request_.grep().empty()) {
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_encoding(re2::RE2::Options::EncodingLatin1);  // logs are bytes
    pattern_.emplace(request_.grep(), options);
    if (!pattern_->ok()) {
      return {grpc::StatusCode::INVALID_ARGUMENT,
              fmt::format("--grep {}: {} (RE2 syntax)", request_.grep(), pattern_->error())};
    }
  }
  for (const Source& source : start_.additions.sources) {
    AddReading(source, std::nullopt);
  }
  if (grpc::Status found = AddRemains(); !found.ok()) {
    return found;
  }
  TellLeftOut(start_.additions.left_out);
  merging_ = readings_.size() > 1;
  return grpc::Status::OK;
}

// Logs of services that are not configured any more.
grpc::Status LogsCall::AddRemains() {
  for (const Start::Unknown& unknown : start_.unknown) {
    const std::vector<std::string> ids = FindLogRemains(start_.log_directory, unknown.name, request_.stderr());
    if (ids.empty()) {
      return unknown.status;
    }
    for (const std::string& id : ids) {
      const bool is_stderr = request_.stderr();
      AddReading({.id = id,
                  .stream = is_stderr ? id + ".err" : id,
                  .file = fmt::format("{}/{}{}", start_.log_directory, id, is_stderr ? ".err.log" : ".log")},
                 std::nullopt);
      notices_.emplace_back(id, "not in the configuration any more: this is the log that it left");
    }
  }
  return grpc::Status::OK;
}

void LogsCall::TellLeftOut(const std::vector<std::string>& ids) {
  for (const std::string& id : ids) {
    notices_.emplace_back(id,
                          "left out: the caller is a process of a service, and what it shows of this log would come "
                          "back into it without end");
  }
}

void LogsCall::AddReading(const Source& source, std::optional<int64_t> since_ms) {
  auto reading = std::make_unique<Reading>(source, since_ms);
  if (follow_) {
    // On the pump's thread, up to a thousand times a second for each follower: those that have enough to read are
    // not woken, and cost it two looks. The reading outlives its subscription, which is its own.
    reading->subscription =
        logs_.Subscribe(source.stream, [this, weak = weak_from_this(), grown = &reading->grown](const std::string&) {
          if (!grown->load()) {
            grown->store(true);
          }
          if (!hungry_.load()) {
            return;
          }
          if (const std::shared_ptr<LogsCall> self = weak.lock(); self != nullptr && hungry_.exchange(false)) {
            self->Note(kGrown);
          }
        });
  }
  readings_.push_back(std::move(reading));
}

// What a reload has added since, read from then on.
void LogsCall::TakeAdded() {
  std::vector<std::pair<Additions, int64_t>> added;
  {
    const std::lock_guard lock(added_mutex_);
    added.swap(added_);
  }
  for (const auto& [additions, since_ms] : added) {
    TellLeftOut(additions.left_out);
    for (const Source& source : additions.sources) {
      const bool is_known = std::any_of(readings_.begin(), readings_.end(),
                                        [&source](const auto& reading) { return reading->source.id == source.id; });
      if (is_known) {
        continue;  // it was removed, and has come back
      }
      AddReading(source, since_ms);
      if (const grpc::Status status = OpenOne(*readings_.back()); !status.ok()) {
        End(status);
        return;
      }
    }
  }
}

// What the services wrote before the call is to be in the answer: the pump may still have to move it.
void LogsCall::AwaitFlushes() {
  constexpr uint64_t kQuickLines = 10'000;
  if (pattern_ || request_.since_unix_ms() != 0 || request_.until_unix_ms() != 0 || request_.lines() > kQuickLines) {
    lane_ = Lane::kSearch;
  }
  flushes_left_ = readings_.size();
  if (readings_.empty()) {
    Note(kFlushed);
  }
  for (const auto& reading : readings_) {
    logs_.Flush(reading->source.stream, kFlushWait, [self = shared_from_this()] {
      if (--self->flushes_left_ == 0) {
        self->Note(kFlushed);
      }
    });
  }
}

LogSelection LogsCall::Selection(const Reading& reading) const {
  LogSelection selection;
  if (reading.since_ms) {
    selection.since_ms = reading.since_ms;
    if (pattern_) {
      selection.matches = [this](std::string_view line) { return Matches(line); };
    }
    return selection;
  }
  constexpr uint64_t kAll = std::numeric_limits<uint64_t>::max();
  const bool by_time = request_.since_unix_ms() != 0 || request_.until_unix_ms() != 0;
  if (request_.has_lines()) {
    selection.lines = request_.lines() == kAll ? std::nullopt : std::optional<uint64_t>(request_.lines());
  } else if (!by_time && (follow_ || !pattern_)) {
    selection.lines = kDefaultLines;
  }
  if (pattern_) {
    selection.matches = [this](std::string_view line) { return Matches(line); };
  }
  if (request_.since_unix_ms() != 0) {
    selection.since_ms = request_.since_unix_ms();
  }
  if (request_.until_unix_ms() != 0) {
    selection.until_ms = request_.until_unix_ms();
  }
  selection.until_now = !follow_;
  return selection;
}

grpc::Status LogsCall::OpenOne(Reading& reading) {
  if (merging_ || request_.times()) {
    reading.reader.TellTimes();
  }
  Piece hello;
  absl::Status status;
  if (const auto after = request_.after().find(reading.source.id); after != request_.after().end()) {
    const v1::LogPosition& place = after->second;
    const auto found = reading.reader.SeekAfter(
        {{.device = place.device(), .inode = place.inode(), .born_ns = place.born_ns()}, place.offset()});
    status = found.status();
    if (found.ok() && !*found) {
      hello.notice = "the log was rotated further than is kept, or truncated: bytes are left out here";
    }
  } else {
    status = reading.reader.Seek(Selection(reading));
  }
  if (!status.ok() && !absl::IsNotFound(status)) {
    return {grpc::StatusCode::INTERNAL, std::string(status.message())};
  }
  if (follow_) {
    // Where it begins: for a follower that has to go on with another daemon before anything came.
    hello.offset = reading.reader.offset();
    hello.next = reading.reader.position();
    reading.ahead = std::move(hello);
  }
  return grpc::Status::OK;
}

void LogsCall::Open() {
  for (const auto& reading : readings_) {
    if (const grpc::Status status = OpenOne(*reading); !status.ok()) {
      End(status);
      return;
    }
  }
  opened_ = true;
}

}  // namespace supervisor
