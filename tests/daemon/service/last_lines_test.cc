#include "daemon/service/last_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/daemon/logs/log_test_util.h"

namespace supervisor {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Le;
using testing::Not;
using testing::SizeIs;

constexpr size_t kMostBytes = 16 << 10;

class LastLinesTest : public testing::Test {
 protected:
  std::vector<std::string> Read(const SecretMask& secrets = {}) {
    return ReadLastLines({.log_files = {log_}, .secrets = secrets, .environment_file = ""}, 50);
  }

  TempDir dir_;
  std::string log_ = dir_ / "web.log";
};

std::string LongLines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += std::string(20 << 10, 'x') + "\n";
  }
  return text;
}

TEST_F(LastLinesTest, AreTheLastFiftyOfShortOnes) {
  EXPECT_THAT(Read(), IsEmpty());
  WriteFile(log_, NumberedLines(0, 200));
  const std::vector<std::string> lines = Read();
  ASSERT_THAT(lines, SizeIs(50));
  EXPECT_EQ(lines.front(), "line 150 of the output");
  EXPECT_EQ(lines.back(), "line 199 of the output");
}

TEST_F(LastLinesTest, OfLongOnesTheEndIsKept) {
  WriteFile(log_, LongLines(49) + "FATAL: the reason\n");
  const std::vector<std::string> lines = Read();
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_THAT(lines[0], SizeIs(kMostBytes - lines[1].size() - 2));
  EXPECT_EQ(lines[1], "FATAL: the reason");
}

TEST_F(LastLinesTest, OfAVeryLongOneTheEndIsKept) {
  WriteFile(log_, std::string(1 << 20, 'x') + "the end");
  EXPECT_THAT(Read(), ElementsAre(AllOf(SizeIs(kMostBytes), EndsWith("xthe end"))));
}

TEST_F(LastLinesTest, ARotationInBetweenMakesNoDifference) {
  WriteFile(log_ + ".2", std::string(1 << 20, 'x'));
  WriteFile(log_ + ".1", LongLines(30) + "FATAL: ");
  WriteFile(log_, "the reason\n");
  EXPECT_THAT(Read().back(), "FATAL: the reason");
  WriteFile(log_, "");
  EXPECT_THAT(Read().back(), "FATAL: ");
}

TEST_F(LastLinesTest, SecretsAreHiddenAlsoWhereTheyAreCut) {
  const std::string secret = std::string(100, 'a') + "-battery-staple";
  SecretMask mask;
  mask.Learn({{"API_TOKEN", secret}});
  std::string text;
  while (text.size() < 300 << 10) {
    text += secret;  // so that asterisks are all that is left, and the beginning of what is read is shown
  }
  for (size_t shift = 0; shift <= secret.size(); ++shift) {
    WriteFile(log_, text + std::string(shift, 'y'));
    EXPECT_THAT(Read(mask), ElementsAre(AllOf(Not(HasSubstr("staple")), SizeIs(Le(kMostBytes))))) << shift;
  }
}

}  // namespace
}  // namespace supervisor
