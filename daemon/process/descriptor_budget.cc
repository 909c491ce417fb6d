#include "daemon/process/descriptor_budget.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

namespace supervisor {
namespace {

// What comes to be later: threads of gRPC, of checks and of notifications have their own pipes and epoll instances.
constexpr uint64_t kOwnLater = 24;
constexpr uint64_t kLeastReserve = 48;
constexpr uint64_t kMostReserve = 1024;
// Files of /proc and of its cgroup that are kept open to measure one service, at most.
constexpr uint64_t kKeptForEach = 52;

std::atomic<bool> g_in_plenty = true;

// Before Linux 6.2, once.
uint64_t CountDescriptors() {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir("/proc/self/fd"), closedir);
  uint64_t count = 0;
  while (directory != nullptr &&
         readdir(directory.get()) != nullptr) {  // NOLINT(concurrency-mt-unsafe): our own stream
    ++count;
  }
  return count;
}

}  // namespace

DescriptorShares ShareOutDescriptors(uint64_t limit, uint64_t own) {
  const uint64_t reserve = std::clamp(limit / 8, kLeastReserve, kMostReserve);
  const uint64_t taken = own + kOwnLater + reserve;
  return {
      .limit = limit, .own = own + kOwnLater, .reserve = reserve, .for_services = limit > taken ? limit - taken : 0};
}

uint64_t DescriptorLimit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

std::optional<uint64_t> OpenDescriptors() {
  struct stat info {};
  if (stat("/proc/self/fd", &info) != 0 || info.st_size <= 0) {
    return std::nullopt;
  }
  return static_cast<uint64_t>(info.st_size);
}

DescriptorBudget::Claim& DescriptorBudget::Claim::operator=(Claim&& other) noexcept {
  if (this != &other) {
    GiveBack();
    budget_ = std::exchange(other.budget_, nullptr);
    count_ = std::exchange(other.count_, 0);
  }
  return *this;
}

void DescriptorBudget::Claim::GiveBack() {
  if (budget_ != nullptr) {
    budget_->Set(*this, 0);
    budget_ = nullptr;
  }
}

void DescriptorBudget::Begin() {
  Begin(ShareOutDescriptors(DescriptorLimit(), OpenDescriptors().value_or(CountDescriptors())));
}

void DescriptorBudget::Begin(const DescriptorShares& shares) { shares_ = shares; }

void DescriptorBudget::Set(Claim& claim, uint64_t count) {
  claimed_ += count;
  claimed_ -= claim.count_;
  claim.budget_ = this;
  claim.count_ = count;
}

bool DescriptorsAreInPlenty() { return g_in_plenty.load(std::memory_order_relaxed); }

void DescriptorBudget::Expect(uint64_t descriptors, uint64_t instances) {
  g_in_plenty.store(descriptors + instances * kKeptForEach <= shares_.for_services, std::memory_order_relaxed);
}

void DescriptorBudget::Force(Claim& claim, uint64_t count) { Set(claim, count); }

absl::Status DescriptorBudget::Resize(Claim& claim, uint64_t count) {
  const uint64_t more = count > claim.count_ ? count - claim.count_ : 0;
  const std::optional<uint64_t> open = more > 0 ? OpenDescriptors() : std::nullopt;
  const bool fits = claimed_ + more <= shares_.for_services;
  // Half of the reserve is for what is open for a moment.
  const bool is_free = !open || *open + more + shares_.reserve / 2 <= shares_.limit;
  if (more > 0 && (!fits || !is_free)) {
    return absl::ResourceExhaustedError(fmt::format(
        "too few file descriptors: it needs {}; of supervisord's limit of {} (RLIMIT_NOFILE) {} are in use "
        "and {} are kept for control, database, logs and the end. Raise LimitNOFILE= of supervisord's unit, "
        "or the hard limit (ulimit -Hn) where it is started, and restart it",
        more, shares_.limit, open.value_or(shares_.own + claimed_), shares_.reserve));
  }
  Set(claim, count);
  return absl::OkStatus();
}

}  // namespace supervisor
