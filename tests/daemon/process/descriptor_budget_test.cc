#include "daemon/process/descriptor_budget.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "common/unique_fd.h"

namespace supervisor {
namespace {

DescriptorShares Shares(uint64_t for_services) {
  return {.limit = 1'000'000, .own = 80, .reserve = 100, .for_services = for_services};
}

TEST(DescriptorShares, AReserveIsKeptAtEveryLimit) {
  for (const uint64_t limit : {0u, 3u, 64u, 100u, 256u, 500u, 1024u, 4096u, 20'000u, 1'048'576u, 1'073'741'816u}) {
    const DescriptorShares shares = ShareOutDescriptors(limit, 70);
    EXPECT_GE(shares.reserve, 48u) << limit;
    EXPECT_LE(shares.reserve, 1024u) << limit;
    EXPECT_GE(shares.own, 70u);
    if (shares.for_services > 0) {
      EXPECT_EQ(shares.own + shares.reserve + shares.for_services, limit);
    } else {
      EXPECT_LE(limit, shares.own + shares.reserve);
    }
  }
}

TEST(DescriptorShares, SixtyPlainServicesFitInto500AndTwoThousandInto20000) {
  constexpr uint64_t kPlain = 5;
  EXPECT_GE(ShareOutDescriptors(500, 70).for_services, 60 * kPlain);
  EXPECT_GE(ShareOutDescriptors(20'000, 70).for_services, 2000 * kPlain);
}

TEST(DescriptorBudget, WhatWouldEatIntoTheReserveIsRefusedAndSaysWhatToDo) {
  DescriptorBudget budget;
  budget.Begin(Shares(10));
  DescriptorBudget::Claim one;
  DescriptorBudget::Claim two;
  EXPECT_TRUE(budget.Resize(one, 5).ok());
  EXPECT_TRUE(budget.Resize(two, 4).ok());
  const absl::Status refused = budget.Resize(two, 6);
  ASSERT_TRUE(absl::IsResourceExhausted(refused));
  for (const char* words : {"it needs 2", "limit of 1000000", "RLIMIT_NOFILE", "100 are kept", "LimitNOFILE="}) {
    EXPECT_NE(refused.message().find(words), std::string::npos) << refused.message();
  }
  EXPECT_EQ(two.count(), 4u);
  EXPECT_EQ(budget.claimed(), 9u);
  EXPECT_TRUE(budget.Resize(two, 5).ok());
}

TEST(DescriptorBudget, AClaimGoesBackWithItsOwner) {
  DescriptorBudget budget;
  budget.Begin(Shares(10));
  DescriptorBudget::Claim kept;
  {
    DescriptorBudget::Claim claim;
    ASSERT_TRUE(budget.Resize(claim, 8).ok());
    DescriptorBudget::Claim moved = std::move(claim);
    EXPECT_EQ(moved.count(), 8u);
    EXPECT_FALSE(budget.Resize(kept, 3).ok());
  }
  EXPECT_EQ(budget.claimed(), 0u);
  EXPECT_TRUE(budget.Resize(kept, 10).ok());
  kept = {};
  EXPECT_EQ(budget.claimed(), 0u);
}

TEST(DescriptorBudget, WhatIsOpenAlreadyCountsWithoutAQuestion) {
  DescriptorBudget budget;
  budget.Begin(Shares(4));
  DescriptorBudget::Claim adopted;
  budget.Force(adopted, 9);
  EXPECT_EQ(budget.claimed(), 9u);
  DescriptorBudget::Claim next;
  EXPECT_FALSE(budget.Resize(next, 1).ok());
  EXPECT_TRUE(budget.Resize(adopted, 9).ok()) << "a restart of the same needs no more";
  EXPECT_TRUE(budget.Resize(adopted, 5).ok());
}

TEST(DescriptorBudget, FilesAreKeptOpenOnlyWhereThereIsPlenty) {
  DescriptorBudget budget;
  budget.Begin(Shares(100));
  budget.Expect(5, 1);
  EXPECT_TRUE(DescriptorsAreInPlenty());
  budget.Expect(10, 2);
  EXPECT_FALSE(DescriptorsAreInPlenty());
  budget.Expect(0, 0);
  EXPECT_TRUE(DescriptorsAreInPlenty());
}

TEST(DescriptorBudget, WhatOthersHaveOpenCountsToo) {
  const std::optional<uint64_t> open = OpenDescriptors();
  if (!open) {
    GTEST_SKIP() << "this kernel does not count descriptors";
  }
  const UniqueFd another(open > 0 ? ::open("/dev/null", O_RDONLY | O_CLOEXEC) : -1);
  EXPECT_EQ(OpenDescriptors(), *open + 1);
  DescriptorBudget budget;
  budget.Begin({.limit = *open + 20, .own = 0, .reserve = 20, .for_services = 1000});
  DescriptorBudget::Claim claim;
  EXPECT_TRUE(budget.Resize(claim, 5).ok());
  EXPECT_FALSE(budget.Resize(claim, 50).ok());
}

}  // namespace
}  // namespace supervisor
