#include "daemon/logs/log_index_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <utility>

#include "common/diag_log.h"
#include "common/errno_status.h"
#include "daemon/logs/log_chain.h"
#include "daemon/logs/log_file.h"

namespace supervisor {
namespace {

constexpr size_t kRecordsKept = 4096;  // 128 KiB, and twice that before it is written anew
constexpr absl::Duration kCheckEvery = absl::Seconds(1);
constexpr int64_t kClockSlackMs = 1000;
constexpr int kOpenFlags = O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
constexpr mode_t kFileMode = 0640;

// Whether it is a file of our own making: what else is at this name is a stranger's, who hopes that we write to it.
bool IsOurs(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() && status.st_nlink == 1 &&
         static_cast<uint64_t>(status.st_size) <= kLargestIndex;
}

UniqueFd MakeFile(int dir_fd, const std::string& name) {
  UniqueFd made(openat(dir_fd, name.c_str(), kOpenFlags | O_CREAT | O_EXCL, kFileMode));
  if (made) {
    fchmod(made.get(), kFileMode);  // whatever the umask is; should it fail, fewer may read it
  }
  return made;
}

LogIndexRecord SpanRecord(uint32_t tag, uint64_t offset, int64_t first_ms, int64_t last_ms) {
  constexpr int64_t kLongest = std::numeric_limits<uint32_t>::max();
  first_ms = std::clamp(first_ms, last_ms - kLongest, last_ms);
  return {.first_ms = first_ms, .span_ms = static_cast<uint32_t>(last_ms - first_ms), .offset = offset, .tag = tag};
}

std::string ReadAll(int fd, uint64_t size) {
  std::string bytes(size, '\0');
  const ssize_t got = pread(fd, bytes.data(), bytes.size(), 0);
  bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return bytes;
}

}  // namespace

// Another file, or the same one truncated.
bool LogIndexWriter::IsOther(uint32_t tag, uint64_t size) const {
  return tag != tag_ || size < last_size_ || (wrote_ && size <= noted_offset_);
}

void LogIndexWriter::Note(const LogFile& log, const FileFacts& facts, MonoTime now) {
  const uint32_t tag = FileTag(facts.id);
  const bool other_file = IsOther(tag, facts.size);
  // Where nothing was written since the last record, writing fails just now: no need to tell ten times a second.
  if (!other_file && now - noted_at_ < (wrote_ ? kInterval : kCheckEvery)) {
    last_size_ = facts.size;
    return;
  }
  const int64_t now_ms = absl::ToUnixMillis(WallNow());
  if (now - checked_at_ >= kCheckEvery) {
    checked_at_ = now;
    if (const auto index = file_ ? FactsOf(file_.get()) : std::nullopt; !index || index->links == 0) {
      file_.Reset();
    }
  }
  if (!file_ && !Open(log)) {
    Fail(log);
  }
  if (other_file) {
    owed_.reset();
    tag_ = tag;
    if (facts.size > 0) {
      LearnFile(log, facts);
    }
  }
  noted_at_ = now;
  noted_offset_ = last_size_ = facts.size;
  wrote_ = false;
  if (owed_) {
    *owed_ = SpanRecord(tag, owed_->offset, owed_->first_ms, now_ms);
    if (!Write(log, *owed_)) {
      return;  // stands for what comes now as well
    }
    owed_.reset();
  }
  const LogIndexRecord record = SpanRecord(tag, facts.size, now_ms, now_ms + absl::ToInt64Milliseconds(kInterval));
  if (!Write(log, record)) {
    owed_ = record;
  }
}

bool LogIndexWriter::Open(const LogFile& log) {
  const absl::StatusOr<UniqueFd> directory = log.OpenDirectory();
  if (!directory.ok()) {
    errno = ENOENT;
    return false;
  }
  const std::string name = IndexName(log.base());
  UniqueFd file(openat(directory->get(), name.c_str(), kOpenFlags));
  if (file && !IsOurs(file.get())) {
    file.Reset();
    errno = ELOOP;
  }
  if (!file && errno == ELOOP) {
    unlinkat(directory->get(), name.c_str(), 0);  // the name; what a link points to stays as it is
    errno = ENOENT;
  }
  if (!file && errno == ENOENT) {
    file = MakeFile(directory->get(), name);
  }
  const auto facts = file ? FactsOf(file.get()) : std::nullopt;
  if (!facts) {
    return false;
  }
  file_ = std::move(file);
  size_ = facts->size;
  compact_at_ = std::max<uint64_t>(2 * kRecordsKept * kIndexRecordBytes, compact_at_);
  return true;
}

// A file with bytes in it that we have not written: an earlier daemon has, or somebody without an index.
void LogIndexWriter::LearnFile(const LogFile& log, const FileFacts& facts) {
  if (!file_) {
    return;
  }
  const std::vector<LogIndexRecord> records = ParseRecords(ReadAll(file_.get(), size_));
  const auto last = std::find_if(records.rbegin(), records.rend(),
                                 [this](const LogIndexRecord& record) { return record.tag == tag_; });
  if (last == records.rend()) {
    Write(log, SpanRecord(tag_, 0, facts.id.born_ns / 1'000'000, facts.modified_ms));
  } else if (last->offset < facts.size && facts.modified_ms > last->first_ms + last->span_ms + kClockSlackMs) {
    Write(log, SpanRecord(tag_, last->offset, last->first_ms, facts.modified_ms));
  }
}

bool LogIndexWriter::Write(const LogFile& log, const LogIndexRecord& record) {
  if (!file_) {
    return false;
  }
  if (size_ >= compact_at_) {
    Compact(log);
  }
  std::string bytes;
  AppendRecord(bytes, record);
  const ssize_t written = write(file_.get(), bytes.data(), bytes.size());
  size_ += written > 0 ? static_cast<uint64_t>(written) : 0;
  if (written != static_cast<ssize_t>(bytes.size())) {
    Fail(log);  // a piece of a record is no record: the next one is written behind it
    return false;
  }
  return true;
}

// Without those files that are gone, and the older records thinned out.
void LogIndexWriter::Compact(const LogFile& log) {
  std::vector<uint32_t> alive;
  for (const LogChain::Entry& entry : LogChain(log.path()).List()) {
    alive.push_back(FileTag(entry.original.value_or(entry.id)));
  }
  const std::vector<LogIndexRecord> records =
      ThinRecords(ParseRecords(ReadAll(file_.get(), size_)), alive, kRecordsKept);
  std::string bytes;
  for (const LogIndexRecord& record : records) {
    AppendRecord(bytes, record);
  }
  compact_at_ = 2 * std::max<uint64_t>(kRecordsKept * kIndexRecordBytes, bytes.size());
  const absl::StatusOr<UniqueFd> directory = log.OpenDirectory();
  if (!directory.ok()) {
    return;
  }
  const std::string temp = IndexTempName(log.base());
  unlinkat(directory->get(), temp.c_str(), 0);
  UniqueFd fresh = MakeFile(directory->get(), temp);
  if (!fresh || write(fresh.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()) ||
      renameat(directory->get(), temp.c_str(), directory->get(), IndexName(log.base()).c_str()) != 0) {
    unlinkat(directory->get(), temp.c_str(), 0);
    return;  // the old one goes on
  }
  file_ = std::move(fresh);
  size_ = bytes.size();
}

void LogIndexWriter::Fail(const LogFile& log) {
  if (!std::exchange(warned_, true)) {
    LogWarning("no index can be written; logs --since and --until are less exact until it can",
               {{"index", log.directory() + "/" + IndexName(log.base())},
                {"error", std::string(ErrnoToStatus(errno, "index").message())}});
  }
}

}  // namespace supervisor
