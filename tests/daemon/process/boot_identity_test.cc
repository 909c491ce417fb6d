#include "daemon/process/boot_identity.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

const BootIdentity kHere{.boot_id = "b", .pid_namespace = 4026531836, .init_start_ticks = 12};

BootIdentity With(uint64_t pid_namespace, uint64_t init_start_ticks) {
  return {.boot_id = "b", .pid_namespace = pid_namespace, .init_start_ticks = init_start_ticks};
}

TEST(BootIdentity, AnotherNamespaceOrAnotherInitInItIsAnotherBoot) {
  EXPECT_TRUE(IsSameBoot(kHere, kHere));
  EXPECT_FALSE(IsSameBoot(With(4026532000, 12), kHere));
  EXPECT_FALSE(IsSameBoot(With(4026531836, 13), kHere)) << "the kernel uses inodes again";
  BootIdentity rebooted = kHere;
  rebooted.boot_id = "c";
  EXPECT_FALSE(IsSameBoot(rebooted, kHere));
}

TEST(BootIdentity, WhatIsNotKnownSaysNothingAgainstIt) {
  EXPECT_TRUE(IsSameBoot(With(0, 0), kHere)) << "of a program that did not write it";
  EXPECT_TRUE(IsSameBoot(kHere, With(0, 0)));
  EXPECT_TRUE(IsSameBoot(With(4026531836, 0), kHere)) << "pid 1 was hidden";
  EXPECT_TRUE(IsSameBoot(kHere, With(4026531836, 0)));
  EXPECT_FALSE(IsSameBoot(With(4026532000, 0), kHere));
}

TEST(BootIdentity, IsReadBack) {
  BootIdentity read{.boot_id = "b", .pid_namespace = 0, .init_start_ticks = 0};
  TakePidNamespace(FormatPidNamespace(kHere), read);
  EXPECT_EQ(read, kHere);
}

TEST(BootIdentity, WhatIsNoneIsNotTaken) {
  for (const char* text : {"", " ", "1", "1 ", " 1", "1 x", "x 1", "1 2 3", "-1 2", "1\t2", "99999999999999999999 1"}) {
    BootIdentity read = kHere;
    TakePidNamespace(text, read);
    EXPECT_EQ(read, kHere) << text;
  }
}

TEST(BootIdentity, OfThisProcess) {
  const BootIdentity boot = CurrentBoot();
  struct stat info {};
  ASSERT_EQ(stat("/proc/self/ns/pid", &info), 0);
  EXPECT_EQ(boot.boot_id, BootId());
  EXPECT_EQ(boot.pid_namespace, info.st_ino);
  EXPECT_TRUE(IsSameBoot(boot, CurrentBoot()));
}

}  // namespace
}  // namespace supervisor
