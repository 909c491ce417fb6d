#include "daemon/process/birth_journal.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/daemon/process/process_harness.h"

namespace supervisor {
namespace {

const BootIdentity kBoot{
    .boot_id = "3f9b6c1e-0000-4000-8000-000000000000", .pid_namespace = 4026531836, .init_start_ticks = 12};

class BirthJournalTest : public testing::Test {
 protected:
  BirthJournalTest() {
    std::string pattern = testing::TempDir() + "birthsXXXXXX";
    directory_ = mkdtemp(pattern.data());
    path_ = directory_ + "/births";
  }
  ~BirthJournalTest() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<BirthJournal> Open(const BootIdentity& boot = kBoot) const {
    absl::StatusOr<std::unique_ptr<BirthJournal>> journal = BirthJournal::Open(path_, boot);
    EXPECT_TRUE(journal.ok()) << journal.status();
    return *std::move(journal);
  }

  std::string directory_;
  std::string path_;
};

TEST_F(BirthJournalTest, TheKernelWritesThePidAndTheNextDaemonReadsIt) {
  const std::unique_ptr<BirthJournal> journal = Open();
  EXPECT_TRUE(journal->left().empty());
  const auto birth = journal->Begin({.name = "web:3",
                                     .number = 7,
                                     .attempts = 2,
                                     .restart_count = 5,
                                     .started_unix_ms = 1'790'000'000'123,
                                     .watchdog_us = 4,
                                     .begun_ticks = 99,
                                     .mark = "0123456789abcdef0123456789abcdef"});
  ASSERT_NE(birth, nullptr);
  ProcessHarness harness;
  SpawnRequest request = ProcessHarness::Shell("exit 0");
  request.birth = birth->note();
  pid_t pid = 0;
  harness.Run(request, [&](const ChildProcess& child) { pid = child.pid(); });

  const std::unique_ptr<BirthJournal> next = Open();
  ASSERT_EQ(next->left().size(), 1u);
  const BirthJournal::Left& left = next->left().front();
  EXPECT_EQ(left.plan.name, "web:3");
  EXPECT_EQ(left.plan.number, 7u);
  EXPECT_EQ(left.plan.attempts, 2);
  EXPECT_EQ(left.plan.restart_count, 5);
  EXPECT_EQ(left.plan.started_unix_ms, 1'790'000'000'123);
  EXPECT_EQ(left.plan.watchdog_us, 4);
  EXPECT_EQ(left.plan.begun_ticks, 99u);
  EXPECT_EQ(left.plan.mark, "0123456789abcdef0123456789abcdef");
  EXPECT_EQ(left.note.pid, pid);
  EXPECT_EQ(left.note.failed_step, 0);
}

TEST_F(BirthJournalTest, AStartThatFailedSaysSo) {
  const std::unique_ptr<BirthJournal> journal = Open();
  const auto birth = journal->Begin({.name = "web", .number = 1, .mark = ""});
  ProcessHarness harness;
  SpawnRequest request = ProcessHarness::Shell("exit 0");
  request.command = "/nonexistent/program";
  request.birth = birth->note();
  harness.Run(request);
  EXPECT_EQ(birth->note()->failed_step, static_cast<int>(SpawnFailure::Step::kExec) + 1);
  EXPECT_EQ(birth->note()->error, ENOENT);
  EXPECT_NE(birth->note()->pid, 0);
}

TEST_F(BirthJournalTest, WhatIsOnRecordIsForgotten) {
  const std::unique_ptr<BirthJournal> journal = Open();
  auto kept = journal->Begin({.name = "kept", .number = 2, .mark = ""});
  journal->Begin({.name = "gone", .number = 1, .mark = ""}).reset();
  const std::unique_ptr<BirthJournal> next = Open();
  ASSERT_EQ(next->left().size(), 1u);
  EXPECT_EQ(next->left().front().plan.name, "kept");
  next->ForgetLeft();
  EXPECT_TRUE(Open()->left().empty());
}

TEST_F(BirthJournalTest, AnotherBootOfTheMachineOrTheContainerHasNoneOfThem) {
  BootIdentity rebooted = kBoot;
  rebooted.boot_id = "4f9b6c1e-0000-4000-8000-000000000000";
  BootIdentity other_namespace = kBoot;
  other_namespace.pid_namespace += 1;
  BootIdentity same_inode = kBoot;
  same_inode.init_start_ticks += 1;
  for (const BootIdentity& next : {rebooted, other_namespace, same_inode}) {
    const std::unique_ptr<BirthJournal> journal = Open();
    const auto birth = journal->Begin({.name = "web", .number = 1, .mark = ""});
    EXPECT_EQ(Open()->left().size(), 1u) << "the same boot";
    const std::unique_ptr<BirthJournal> later = Open(next);
    EXPECT_TRUE(later->left().empty());
    const auto born = later->Begin({.name = "born", .number = 2, .mark = ""});
    ASSERT_EQ(Open(next)->left().size(), 1u) << "the place is free, and of the new boot";
    EXPECT_EQ(Open(next)->left().front().plan.name, "born");
  }
}

TEST_F(BirthJournalTest, AFileThatDoesNotSayItsBootIsOfThisOne) {
  {
    const std::unique_ptr<BirthJournal> journal = Open();
    const auto birth = journal->Begin({.name = "web", .number = 1, .mark = ""});
    std::fstream file(path_, std::ios::in | std::ios::out);
    file.seekp(64);
    file.write(std::string(184 - 64, '\0').data(), 184 - 64);  // as an older program made it
    file.close();
    EXPECT_EQ(Open()->left().size(), 1u);
  }
}

TEST_F(BirthJournalTest, TheyComeInTheOrderOfTheirNumbers) {
  const std::unique_ptr<BirthJournal> journal = Open();
  const auto third = journal->Begin({.name = "web", .number = 3, .mark = ""});
  const auto first = journal->Begin({.name = "web", .number = 1, .mark = ""});
  const auto second = journal->Begin({.name = "web", .number = 2, .mark = ""});
  const std::unique_ptr<BirthJournal> next = Open();
  ASSERT_EQ(next->left().size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(next->left()[i].plan.number, i + 1);
  }
}

TEST_F(BirthJournalTest, ItGrowsAndItsPlacesAreUsedAgain) {
  const std::unique_ptr<BirthJournal> journal = Open();
  constexpr size_t kMany = 3000;
  for (int round = 0; round < 20; ++round) {
    std::vector<std::shared_ptr<BirthJournal::Birth>> births;
    for (size_t i = 0; i < kMany; ++i) {
      births.push_back(journal->Begin({.name = "web", .number = i + 1, .mark = ""}));
      ASSERT_NE(births.back(), nullptr);
    }
    ASSERT_EQ(Open()->left().size(), kMany);
  }
  EXPECT_TRUE(Open()->left().empty());
  struct stat info {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_LT(info.st_size, 1 << 20);
}

TEST_F(BirthJournalTest, AFileThatWasRemovedIsMadeAnewForThoseToCome) {
  const std::unique_ptr<BirthJournal> journal = Open();
  auto before = journal->Begin({.name = "before", .number = 1, .mark = ""});
  EXPECT_TRUE(journal->MakeAnew(path_).ok());
  EXPECT_EQ(Open()->left().size(), 1u) << "which was not removed";
  ASSERT_EQ(unlink(path_.c_str()), 0);
  ASSERT_TRUE(journal->MakeAnew(path_).ok());
  const auto after = journal->Begin({.name = "after", .number = 2, .mark = ""});
  before->note()->pid = 1;
  before.reset();
  const std::unique_ptr<BirthJournal> next = Open();
  ASSERT_EQ(next->left().size(), 1u);
  EXPECT_EQ(next->left().front().plan.name, "after");
}

TEST_F(BirthJournalTest, NoMoreThanThereIsRoomForAreTaken) {
  const std::unique_ptr<BirthJournal> journal = Open();
  std::vector<std::shared_ptr<BirthJournal::Birth>> births;
  while (auto birth = journal->Begin({.name = "web", .number = 1, .mark = ""})) {
    births.push_back(std::move(birth));
    ASSERT_LT(births.size(), 100'000u);
  }
  EXPECT_GT(births.size(), 10'000u);
  births.clear();
  EXPECT_NE(journal->Begin({.name = "web", .number = 1, .mark = ""}), nullptr);
}

TEST_F(BirthJournalTest, AFileThatIsNoneOfOursIsSetAside) {
  for (const std::string& foreign : {std::string("nonsense"), std::string(184 * 3, 'x'), std::string(184 * 3, '\0')}) {
    std::ofstream(path_, std::ios::trunc) << foreign;
    EXPECT_TRUE(Open()->left().empty());
    EXPECT_TRUE(std::filesystem::exists(path_ + ".damaged"));
    std::filesystem::remove(path_);
    std::filesystem::remove(path_ + ".damaged");
  }
}

TEST_F(BirthJournalTest, HalfAnEntryIsNone) {
  { auto birth = Open()->Begin({.name = "web", .number = 1, .mark = ""}); }
  {
    const std::unique_ptr<BirthJournal> journal = Open();
    const auto birth = journal->Begin({.name = std::string(500, 'n'), .number = 1, .mark = ""});
    ASSERT_EQ(Open()->left().size(), 1u);
    EXPECT_EQ(Open()->left().front().plan.name, std::string(BirthJournal::kMostName, 'n')) << "cut, and ended";
  }
  std::fstream file(path_, std::ios::in | std::ios::out);
  file.seekp(184);
  file.write("\1\0\0\0", 4);  // taken, and no name
  file.seekp(184 + 184 - 128);
  file.write(std::string(128, '\0').data(), 128);
  file.close();
  EXPECT_TRUE(Open()->left().empty());
}

TEST_F(BirthJournalTest, APlantedLinkIsNotFollowed) {
  std::ofstream(directory_ + "/victim") << "precious";
  std::filesystem::create_symlink(directory_ + "/victim", path_);
  EXPECT_FALSE(BirthJournal::Open(path_, kBoot).ok());
}

}  // namespace
}  // namespace supervisor
