#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"

namespace supervisor {

// How the descriptors of this process (RLIMIT_NOFILE, getrlimit(2)) are shared out. Services get what the program's own
// files and a reserve leave. The reserve is for control, database, logs, checks and an orderly end: they work however
// many services there are, and a start that would eat into it fails and says so.
struct DescriptorShares {
  uint64_t limit = 0;         // all of them
  uint64_t own = 0;           // open before the first service
  uint64_t reserve = 0;       // kept free for what comes and goes
  uint64_t for_services = 0;  // the rest
  bool operator==(const DescriptorShares&) const = default;
};

DescriptorShares ShareOutDescriptors(uint64_t limit, uint64_t own);

// The soft limit of this process now.
uint64_t DescriptorLimit();
// How many descriptors this process has open; nothing where the kernel does not tell it cheaply (before Linux 6.2).
std::optional<uint64_t> OpenDescriptors();

// Whether files may be kept open only to be read again soon: one answer for the process, as there is one limit. Any
// thread. DescriptorBudget::Expect decides it; until then it is so.
bool DescriptorsAreInPlenty();

// Counts what services hold. Loop thread.
class DescriptorBudget {
 public:
  // What one service holds; given back with it.
  class Claim {
   public:
    Claim() = default;
    Claim(Claim&& other) noexcept { *this = std::move(other); }
    Claim& operator=(Claim&& other) noexcept;
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;
    ~Claim() { GiveBack(); }
    uint64_t count() const { return count_; }

   private:
    friend class DescriptorBudget;
    void GiveBack();
    DescriptorBudget* budget_ = nullptr;  // outlives the claim
    uint64_t count_ = 0;
  };

  // Shares out the limit of this process, and what it has open now counts as its own. Once, before the first service.
  void Begin();
  void Begin(const DescriptorShares& shares);

  // Makes it a claim on `count`. ResourceExhausted where that would eat into the reserve, or where more is open than
  // claims tell (by clients, say): names limit, use and remedy. The claim is then as it was.
  absl::Status Resize(Claim& claim, uint64_t count);
  // For what is open already, such as an adopted service's.
  void Force(Claim& claim, uint64_t count);

  // What all configured instances, that many, will hold together: see DescriptorsAreInPlenty.
  void Expect(uint64_t descriptors, uint64_t instances);

  const DescriptorShares& shares() const { return shares_; }
  uint64_t claimed() const { return claimed_; }

 private:
  void Set(Claim& claim, uint64_t count);

  DescriptorShares shares_;
  uint64_t claimed_ = 0;
};

}  // namespace supervisor
