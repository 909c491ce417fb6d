#include "daemon/process/birth_journal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

#include "common/errno_status.h"
#include "common/unique_fd.h"
#include "daemon/process/run_mark.h"

namespace supervisor {
namespace {

constexpr char kMagic[64] = "supervisord-births 1\n";
constexpr size_t kMostSlots = 16'384;
constexpr size_t kSlotsAChunk = 256;

enum SlotState : uint32_t { kFree = 0, kTaken = 1 };

// The file: a header of one slot's size, then slots. In the header, behind kMagic: the boot that the entries are of,
// "BOOT_ID INODE TICKS" (see BootIdentity), or zeros, in the file of an older program.
struct Slot {
  uint32_t state;
  BirthNote note;
  uint64_t number;
  int64_t started_unix_ms;
  int64_t watchdog_us;
  uint64_t begun_ticks;
  int32_t attempts;
  int32_t restart_count;
  char name[BirthJournal::kMostName + 1];
  char mark[RunMark::kSecretSize + 1];  // in place of the last bytes of a longer name, which nobody had
};
static_assert(sizeof(Slot) == 184, "the next daemon, of another version, reads what this one has written");
static_assert(sizeof(kMagic) <= sizeof(Slot));
constexpr size_t kMostBoot = sizeof(Slot) - sizeof(kMagic) - 1;

class JournalFile {
 public:
  ~JournalFile() {
    if (slots_ != nullptr) {
      munmap(slots_, kSize);
    }
  }
  JournalFile() = default;
  JournalFile(const JournalFile&) = delete;
  JournalFile& operator=(const JournalFile&) = delete;

  absl::Status Map(const std::string& path) {
    fd_.Reset(open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    struct stat info {};
    if (!fd_ || fstat(fd_.get(), &info) != 0) {
      return ErrnoToStatus(errno, path);
    }
    if (info.st_uid != geteuid() && info.st_uid != 0) {
      return absl::FailedPreconditionError(path + ": belongs to uid " + std::to_string(info.st_uid) +
                                           ", and is not read (remove it)");
    }
    // What is not allocated must not be touched: that would be a SIGBUS on a full file system.
    allocated_ = std::min(static_cast<size_t>(info.st_size) / sizeof(Slot), kMostSlots + 1);
    if (allocated_ == 0 && !Grow()) {
      return ErrnoToStatus(errno, path);
    }
    void* memory = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    if (memory == MAP_FAILED) {
      return ErrnoToStatus(errno, path);
    }
    slots_ = static_cast<Slot*>(memory);
    if (info.st_size == 0) {
      std::memcpy(slots_, kMagic, sizeof(kMagic));
    } else if (info.st_size % static_cast<off_t>(sizeof(Slot)) != 0 || !S_ISREG(info.st_mode) ||
               std::memcmp(slots_, kMagic, sizeof(kMagic)) != 0) {
      return absl::DataLossError(path + ": not a journal of births");
    }
    return absl::OkStatus();
  }

  bool Grow() {
    const size_t wanted = std::min(allocated_ + kSlotsAChunk, kMostSlots + 1);
    if (wanted == allocated_ || posix_fallocate(fd_.get(), 0, static_cast<off_t>(wanted * sizeof(Slot))) != 0) {
      return false;
    }
    allocated_ = wanted;
    return true;
  }

  // Tells of which boot it was, and is of `boot` from now on.
  BootIdentity ExchangeBoot(const BootIdentity& boot) {
    char* const place = reinterpret_cast<char*>(slots_) + sizeof(kMagic);
    const std::string_view text(place, strnlen(place, kMostBoot));
    const size_t space = text.find(' ');
    BootIdentity before{.boot_id = std::string(text.substr(0, space)), .pid_namespace = 0, .init_start_ticks = 0};
    if (space != std::string_view::npos) {
      TakePidNamespace(text.substr(space + 1), before);
    }
    std::string now = boot.boot_id + " " + FormatPidNamespace(boot);
    now.resize(kMostBoot + 1);
    std::memcpy(place, now.data(), now.size());
    return before;
  }

  Slot& at(size_t index) { return slots_[index]; }
  size_t allocated() const { return allocated_; }  // the header included

 private:
  static constexpr size_t kSize = (kMostSlots + 1) * sizeof(Slot);
  UniqueFd fd_;
  Slot* slots_ = nullptr;
  size_t allocated_ = 0;
};

struct Shared {
  JournalFile file;
  std::mutex mutex;          // over `free`
  std::vector<size_t> free;  // slots that may be taken
};

class BirthImpl final : public BirthJournal::Birth {
 public:
  BirthImpl(std::shared_ptr<Shared> shared, size_t index) : shared_(std::move(shared)), index_(index) {}
  ~BirthImpl() override {
    __atomic_store_n(&shared_->file.at(index_).state, kFree, __ATOMIC_RELEASE);
    const std::lock_guard lock(shared_->mutex);
    shared_->free.push_back(index_);
  }
  BirthImpl(const BirthImpl&) = delete;
  BirthImpl& operator=(const BirthImpl&) = delete;
  BirthNote* note() override { return &shared_->file.at(index_).note; }

 private:
  const std::shared_ptr<Shared> shared_;
  const size_t index_;
};

class BirthJournalImpl final : public BirthJournal {
 public:
  explicit BirthJournalImpl(BootIdentity boot) : boot_(std::move(boot)) {}

  absl::Status Open(const std::string& path) {
    absl::Status status = shared_->file.Map(path);
    if (absl::IsDataLoss(status)) {
      rename(path.c_str(), (path + ".damaged").c_str());
      shared_ = std::make_shared<Shared>();
      status = shared_->file.Map(path);
    }
    if (status.ok()) {
      ReadLeft();
      const BootIdentity before = shared_->file.ExchangeBoot(boot_);
      if (!before.empty() && !IsSameBoot(before, boot_)) {
        left_.clear();
        ForgetLeft();
      }
    }
    return status;
  }

  const std::vector<Left>& left() const override { return left_; }

  void ForgetLeft() override {
    for (const size_t index : std::exchange(left_slots_, {})) {
      __atomic_store_n(&shared_->file.at(index).state, kFree, __ATOMIC_RELEASE);
      const std::lock_guard lock(shared_->mutex);
      shared_->free.push_back(index);
    }
  }

  absl::Status MakeAnew(const std::string& path) override {
    if (access(path.c_str(), F_OK) == 0) {
      return absl::OkStatus();
    }
    ForgetLeft();
    const std::shared_ptr<Shared> before = std::exchange(shared_, std::make_shared<Shared>());
    absl::Status status = Open(path);
    if (!status.ok()) {
      shared_ = before;
    }
    return status;
  }

  std::shared_ptr<Birth> Begin(const BirthPlan& plan) override {
    size_t index = 0;
    {
      const std::lock_guard lock(shared_->mutex);
      if (shared_->free.empty()) {
        const size_t before = shared_->file.allocated();
        if (!shared_->file.Grow()) {
          return nullptr;
        }
        Offer(before);
      }
      index = shared_->free.back();
      shared_->free.pop_back();
    }
    Slot& slot = shared_->file.at(index);
    slot.note = {};
    slot.number = plan.number;
    slot.started_unix_ms = plan.started_unix_ms;
    slot.watchdog_us = plan.watchdog_us;
    slot.begun_ticks = plan.begun_ticks;
    slot.attempts = plan.attempts;
    slot.restart_count = plan.restart_count;
    slot.name[plan.name.copy(slot.name, kMostName)] = '\0';
    slot.mark[plan.mark.copy(slot.mark, RunMark::kSecretSize)] = '\0';
    __atomic_store_n(&slot.state, kTaken, __ATOMIC_RELEASE);  // last: a kill in between leaves no half of an entry
    return std::make_shared<BirthImpl>(shared_, index);
  }

 private:
  void Offer(size_t from) {
    for (size_t index = shared_->file.allocated(); index-- > from;) {
      shared_->free.push_back(index);
    }
  }

  void ReadLeft() {
    for (size_t index = shared_->file.allocated(); index-- > 1;) {
      const Slot& slot = shared_->file.at(index);
      if (slot.state != kTaken || slot.name[0] == '\0' || std::memchr(slot.name, '\0', sizeof(slot.name)) == nullptr) {
        shared_->free.push_back(index);
        continue;
      }
      left_slots_.push_back(index);
      left_.push_back({.plan = {.name = slot.name,
                                .number = slot.number,
                                .attempts = slot.attempts,
                                .restart_count = slot.restart_count,
                                .started_unix_ms = slot.started_unix_ms,
                                .watchdog_us = slot.watchdog_us,
                                .begun_ticks = slot.begun_ticks,
                                .mark = std::string(slot.mark, strnlen(slot.mark, sizeof(slot.mark)))},
                       .note = slot.note});
    }
    std::ranges::stable_sort(left_, {}, [](const Left& left) { return left.plan.number; });
  }

  const BootIdentity boot_;
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::vector<Left> left_;
  std::vector<size_t> left_slots_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BirthJournal>> BirthJournal::Open(const std::string& path, const BootIdentity& boot) {
  auto journal = std::make_unique<BirthJournalImpl>(boot);
  if (absl::Status status = journal->Open(path); !status.ok()) {
    return status;
  }
  return journal;
}

}  // namespace supervisor
