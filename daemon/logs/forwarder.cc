#include "daemon/logs/forwarder.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/diag_log.h"
#include "common/unique_fd.h"
#include "daemon/logs/forward_lines.h"
#include "daemon/logs/forward_mark.h"
#include "daemon/loop/quiet_thread.h"

namespace supervisor {
namespace {

constexpr size_t kReadBytes = 16u << 10;
constexpr absl::Duration kRetryAfter = absl::Seconds(1);
// A line without its end is given as one after this time: the last words of a service that was killed in midst of one.
constexpr absl::Duration kPartialAfter = absl::Seconds(5);
constexpr absl::Duration kEndTime = absl::Milliseconds(500);
constexpr absl::Duration kJoinTime = absl::Seconds(2);
constexpr int kFullWaitMs = 100;

}  // namespace

// One place and its thread, which owns all of it but what is under the mutex.
class Forwarder::Lane : public std::enable_shared_from_this<Lane> {
 public:
  explicit Lane(std::unique_ptr<ForwardSink> sink)
      : sink_(std::move(sink)), wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

  bool Begin() {
    thread_ = StartQuietThread([self = shared_from_this()] { self->Run(); });
    return thread_.joinable();
  }

  void Set(const std::string& stream, const Spec& spec, const std::shared_ptr<GrowthHub>& hub, MissedCallback missed) {
    auto source = std::make_shared<Source>(spec, std::move(missed));
    source->subscription = hub->Subscribe([weak = weak_from_this(), grown = &source->grown](const std::string&) {
      if (!grown->exchange(true)) {
        if (const std::shared_ptr<Lane> self = weak.lock()) {
          self->Wake();
        }
      }
    });
    const std::lock_guard lock(mutex_);
    changes_.push_back({stream, std::move(source), ""});
    Wake();
  }

  void Remove(const std::string& stream) {
    const std::lock_guard lock(mutex_);
    changes_.push_back({stream, nullptr, ""});
    Wake();
  }

  void GiveUpTo(const std::string& stream, const std::string& mark_file) {
    const std::lock_guard lock(mutex_);
    changes_.push_back({stream, nullptr, mark_file});
    Wake();
  }

  void End() {
    std::unique_lock lock(mutex_);
    end_at_ = MonotonicNow() + kEndTime;
    Wake();
    const bool ended = ended_.wait_for(lock, absl::ToChronoMilliseconds(kJoinTime), [this] { return has_ended_; });
    lock.unlock();
    if (ended) {
      thread_.join();
    } else {
      thread_.detach();  // style-ok(detach): it hangs in a write or in a disk, and owns what it touches
    }
  }

 private:
  struct Source {
    Source(const Spec& what, MissedCallback on_missed)
        : spec(what),
          missed(std::move(on_missed)),
          reader(std::make_unique<LogReader>(what.log_file)),
          mark(what.mark_file) {}
    Spec spec;
    MissedCallback missed;
    std::atomic<bool> grown{true};
    std::unique_ptr<LogPump::Subscription> subscription;
    std::unique_ptr<LogReader> reader;
    ForwardMark mark;
    bool begun = false;
    std::optional<ForwardLines> lines;
    std::string notice;  // to be sent before the chunk
    std::string chunk;   // read, and not sent yet
    LogPosition next;    // behind the chunk
    int64_t time_ms = 0;
    uint64_t missed_bytes = 0;
    uint64_t unknown_gaps = 0;
    MonoTime partial_since = absl::ZeroDuration();
    bool giving_partial = false;  // it was not taken whole: it has to come again as it is
    bool leaving = false;
  };
  struct Change {
    std::string stream;
    std::shared_ptr<Source> source;  // null: it leaves
    std::string mark_file;           // where its successor looks for its mark; empty: it has none
  };
  enum class Went { kSomething, kNothing, kStuck };

  void Wake() const {
    const uint64_t one = 1;
    const ssize_t written = write(wake_fd_.get(), &one, sizeof one);
    static_cast<void>(written);  // it fails only when the thread has 2^64 reasons to wake
  }

  MonoTime EndAt() {
    const std::lock_guard lock(mutex_);
    return end_at_;
  }

  void Run() {
    pthread_setname_np(pthread_self(), "log-forward");
    bool ending = false;
    for (MonoTime end_at = EndAt(); MonotonicNow() < end_at; end_at = EndAt()) {
      TakeChanges();
      if (end_at != absl::InfiniteDuration() && !std::exchange(ending, true)) {
        for (const auto& [name, source] : sources_) {
          source->grown = true;  // what came last, nobody may have told
        }
      }
      const Went went = AdvanceAll();
      if (went == Went::kNothing && ending) {
        break;  // everything was forwarded
      }
      if (went != Went::kSomething) {
        Rest(went == Went::kStuck);
      }
    }
    for (const auto& [name, source] : sources_) {
      WriteMark(*source);
      if (source->leaving) {  // nobody goes on with it
        source->mark.Remove();
        LogWarning("the rest of a log was not forwarded: nothing took it before the end",
                   {{"service", source->spec.name}, {"log", source->spec.log_file}});
      }
    }
    stuck_.reset();
    sources_.clear();
    const std::lock_guard lock(mutex_);
    has_ended_ = true;
    ended_.notify_all();
  }

  // While a line waits to be taken nothing else can be sent.
  Went AdvanceAll() {
    if (const std::shared_ptr<Source> stuck = stuck_; stuck != nullptr && Advance(*stuck) == Went::kStuck) {
      return Went::kStuck;
    }
    Went all = Went::kNothing;
    for (auto entry = sources_.begin(); entry != sources_.end();) {
      const std::shared_ptr<Source> source = entry->second;
      Went went = Advance(*source);
      if (source->leaving && went == Went::kNothing) {
        went = GivePartial(*source) ? went : Went::kStuck;
        if (went == Went::kNothing) {
          source->mark.Remove();
          entry = sources_.erase(entry);
          continue;
        }
      }
      if (went == Went::kStuck) {
        stuck_ = source;
        return went;
      }
      all = went == Went::kNothing ? all : went;
      ++entry;
    }
    return all;
  }

  // Until there is more to do.
  void Rest(bool stuck) {
    absl::Duration wait = stuck ? kRetryAfter : absl::Seconds(3600);
    const MonoTime now = MonotonicNow();
    for (const auto& [name, source] : sources_) {
      if (!stuck && source->lines && !source->lines->partial().empty()) {
        wait = std::min(wait, std::max(source->partial_since + kPartialAfter - now, absl::Milliseconds(1)));
      }
    }
    if (stuck && sink_->trouble().empty()) {
      sink_->Wait(wake_fd_.get(), kFullWaitMs);
    } else {
      pollfd woken{.fd = wake_fd_.get(), .events = POLLIN, .revents = 0};
      wait = std::max(std::min(wait, EndAt() - now), absl::ZeroDuration());
      poll(&woken, 1, static_cast<int>(absl::ToInt64Milliseconds(wait)) + 1);
    }
    uint64_t count = 0;
    const ssize_t got = read(wake_fd_.get(), &count, sizeof count);
    static_cast<void>(got);  // nothing where the time was up
  }

  void TakeChanges() {
    std::vector<Change> changes;
    {
      const std::lock_guard lock(mutex_);
      changes.swap(changes_);
    }
    for (Change& change : changes) {
      const auto known = sources_.find(change.stream);
      if (!change.mark_file.empty()) {
        if (known != sources_.end()) {
          Replaced(known->second);
          known->second->mark.MoveTo(change.mark_file);
          sources_.erase(known);
        }
      } else if (change.source == nullptr) {
        if (known != sources_.end()) {
          known->second->leaving = true;
          known->second->grown = true;
        }
      } else if (known != sources_.end() && known->second->spec.log_file == change.source->spec.log_file) {
        known->second->leaving = false;
      } else {
        if (known != sources_.end()) {
          Replaced(known->second);
        }
        sources_[change.stream] = std::move(change.source);
      }
    }
  }

  void Replaced(const std::shared_ptr<Source>& source) {
    if (source == stuck_) {
      stuck_.reset();
      sink_->Abandon();
    }
  }

  void Begin(Source& source) {
    source.begun = true;
    source.lines.emplace(sink_->longest_line());
    source.reader->TellTimes();
    const std::optional<ForwardMark::Place> marked = source.mark.Read();
    std::optional<LogPosition> from = source.spec.begin;
    if (marked) {
      from = marked->position;
      if (marked->within_line) {
        sink_->EndLineFirst();
      }
    }
    if (from) {
      const absl::StatusOr<bool> found = source.reader->SeekAfter(*from);
      if (found.ok() && !*found) {
        TellMissed(source, 0);
      }
    } else {
      static_cast<void>(source.reader->SeekToEnd());
    }
    source.next = source.reader->position();
    WriteMark(source);
  }

  Went Advance(Source& source) {
    if (!source.begun) {
      Begin(source);
    }
    if (source.giving_partial && !GivePartial(source)) {
      return Went::kStuck;
    }
    if (!source.notice.empty()) {
      if (!Send(source, source.notice, absl::ToUnixMillis(WallNow()))) {
        return Went::kStuck;
      }
      source.notice.clear();
    }
    if (source.chunk.empty() && !ReadChunk(source)) {
      const bool aged = MonotonicNow() - source.partial_since >= kPartialAfter;
      return aged && !GivePartial(source) ? Went::kStuck : Went::kNothing;
    }
    return source.notice.empty() ? SendChunk(source) : Went::kSomething;
  }

  // False: there is no more.
  bool ReadChunk(Source& source) {
    if (!source.grown.exchange(false)) {
      return false;
    }
    absl::StatusOr<std::string> bytes = source.reader->Read(kReadBytes);
    const uint64_t missed = source.reader->missed_bytes() - source.missed_bytes;
    source.missed_bytes += missed;
    const uint64_t gaps_before = std::exchange(source.unknown_gaps, source.reader->unknown_gaps());
    if (missed > 0 || source.unknown_gaps > gaps_before) {
      TellMissed(source, missed);
    }
    if (!bytes.ok() || bytes->empty()) {
      source.reader->Release();
      return false;
    }
    source.grown = true;  // there may be more
    source.chunk = *std::move(bytes);
    source.next = source.reader->position();
    source.time_ms = source.reader->read_time_ms().value_or(absl::ToUnixMillis(WallNow()));
    return true;
  }

  Went SendChunk(Source& source) {
    bool sent = true;
    const size_t done = source.lines->Feed(source.chunk, [&](std::string_view line) {
      sent = Send(source, line, source.time_ms);
      return sent;
    });
    source.chunk.erase(0, done);
    source.partial_since = MonotonicNow();
    WriteMark(source);
    if (!sent) {
      source.reader->Release();  // a deleted file takes up the disk as long as somebody has it open
    }
    return sent ? Went::kSomething : Went::kStuck;
  }

  // True too where there is none.
  bool GivePartial(Source& source) {
    if (!source.lines || source.lines->partial().empty() || (!source.chunk.empty() && !source.giving_partial)) {
      return true;
    }
    source.giving_partial = !Send(source, source.lines->partial(), source.time_ms);
    if (!source.giving_partial) {
      source.lines->Clear();
      WriteMark(source);
    }
    return !source.giving_partial;
  }

  bool Send(Source& source, std::string_view line, int64_t time_ms) {
    const bool sent = sink_->Send(source.spec.name, line, time_ms) == ForwardSink::Result::kSent;
    if (sent) {
      stuck_.reset();
    }
    NoteTrouble();
    return sent;
  }

  // What is sent is behind us: the chunk's rest, and the line that has begun, are not.
  void WriteMark(Source& source) {
    if (!source.begun) {
      return;
    }
    ForwardMark::Place place{.position = source.next, .within_line = sink_->IsWithinLine()};
    const uint64_t unsent = source.chunk.size() + source.lines->partial().size();
    place.position.offset -= std::min<uint64_t>(place.position.offset, unsent);
    source.mark.Write(place);
  }

  // `bytes` is 0 where their number is not known. The count leaves out files that rotation made and took while nothing
  // was read.
  void TellMissed(Source& source, uint64_t bytes) {
    const std::string count = bytes == 0 ? "unknown" : "at least " + std::to_string(bytes) + " bytes";
    LogWarning("part of a log was rotated away before it could be forwarded",
               {{"service", source.spec.name}, {"log", source.spec.log_file}, {"missing", count}});
    source.missed(bytes);
    source.giving_partial = !source.lines->partial().empty();  // its end is among what is missing
    source.notice = fmt::format("supervisord: {} left out here: rotated away before they could be forwarded",
                                bytes == 0 ? "bytes of this log may be" : count + " of this log are");
  }

  void NoteTrouble() {
    if (sink_->trouble() == trouble_told_) {
      return;
    }
    if (!sink_->trouble().empty()) {
      LogWarning("logs can't be forwarded: they are kept in their files, and forwarded when it works again",
                 {{"error", sink_->trouble()}});
    } else {
      LogInfo("logs are forwarded again", {});
    }
    trouble_told_ = sink_->trouble();
  }

  std::unique_ptr<ForwardSink> sink_;
  const UniqueFd wake_fd_;
  std::thread thread_;
  std::map<std::string, std::shared_ptr<Source>> sources_;
  std::shared_ptr<Source> stuck_;  // whose line was not taken whole
  std::string trouble_told_;

  std::mutex mutex_;
  std::condition_variable ended_;
  std::vector<Change> changes_;
  MonoTime end_at_ = absl::InfiniteDuration();
  bool has_ended_ = false;
};

Forwarder::~Forwarder() {
  for (const auto& [to, lane] : lanes_) {
    if (lane != nullptr) {
      lane->End();
    }
  }
}

Forwarder::Lane* Forwarder::LaneFor(LogForward to) {
  if (const auto known = lanes_.find(to); known != lanes_.end()) {
    return known->second.get();
  }
  std::unique_ptr<ForwardSink> sink;
  if (to == LogForward::kSyslog) {
    sink = MakeSyslogSink("/dev/log");
  } else {
    absl::StatusOr<std::unique_ptr<ForwardSink>> made = MakeStdoutSink(STDOUT_FILENO);
    if (!made.ok()) {
      LogWarning("logs.forward is \"stdout\", and nothing can be forwarded there; the log files have everything",
                 {{"reason", std::string(made.status().message())}});
      lanes_[to] = nullptr;
      return nullptr;
    }
    sink = *std::move(made);
  }
  auto lane = std::make_shared<Lane>(std::move(sink));
  if (!lane->Begin()) {
    LogWarning("logs are not forwarded: no thread can be made for it", {});
    return nullptr;
  }
  lanes_[to] = lane;
  return lane.get();
}

void Forwarder::Set(const std::string& stream, const Spec& spec, const std::shared_ptr<GrowthHub>& hub,
                    MissedCallback missed) {
  if (const auto before = streams_.find(stream); before != streams_.end() && before->second != spec.to) {
    Remove(stream);
  }
  if (spec.to == LogForward::kNone) {
    return;
  }
  Lane* const lane = LaneFor(spec.to);
  if (lane != nullptr) {
    streams_[stream] = spec.to;
    lane->Set(stream, spec, hub, std::move(missed));
  }
}

void Forwarder::GiveUpTo(const std::string& stream, const std::string& mark_file) {
  const auto known = streams_.find(stream);
  if (known != streams_.end()) {
    lanes_.at(known->second)->GiveUpTo(stream, mark_file);
    streams_.erase(known);
  }
}

void Forwarder::Remove(const std::string& stream) {
  const auto known = streams_.find(stream);
  if (known != streams_.end()) {
    lanes_.at(known->second)->Remove(stream);
    streams_.erase(known);
  }
}

}  // namespace supervisor
