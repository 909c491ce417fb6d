#include "daemon/logs/append_point.h"

#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"
#include "tests/daemon/logs/log_test_util.h"

namespace supervisor {
namespace {

class AppendPointTest : public testing::TestWithParam<size_t> {
 protected:
  AppendPointTest() : fd_(open((dir_ / "log").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {}
  void Append(const std::string& bytes, size_t at) const {
    ASSERT_EQ(pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(at)),
              static_cast<ssize_t>(bytes.size()));
  }
  std::string Content() const { return ReadFile(dir_ / "log"); }

  TempDir dir_;
  UniqueFd fd_;
};

TEST_P(AppendPointTest, ATruncationBeforeTheWriteLeavesNoHole) {
  const size_t size = GetParam();
  Append(std::string(size - 1, 'x') + "\n", 0);
  const AppendPoint end(fd_.get(), size);
  ASSERT_EQ(ftruncate(fd_.get(), 0), 0);
  const std::string bytes = NumberedLines(0, 10'000);
  Append(bytes, size);
  ASSERT_TRUE(end.WasCutSince());
  end.CloseHole(bytes.size());
  EXPECT_EQ(Content(), bytes);
}

TEST_P(AppendPointTest, WithoutOneNothingIsTouched) {
  const size_t size = GetParam();
  const std::string before = std::string(size - 1, 'x') + "\n";
  Append(before, 0);
  const AppendPoint end(fd_.get(), size);
  Append("more\n", size);
  EXPECT_FALSE(end.WasCutSince());
  ASSERT_EQ(ftruncate(fd_.get(), 0), 0);
  EXPECT_FALSE(end.WasCutSince()) << "what is truncated after the write is another matter";
}

TEST_P(AppendPointTest, NulsOfTheServicesOwnAreNoHole) {
  const size_t size = GetParam();
  Append(std::string(size, '\0'), 0);
  const AppendPoint end(fd_.get(), size);
  Append(std::string(100, '\0'), size);
  EXPECT_FALSE(end.WasCutSince());
}

INSTANTIATE_TEST_SUITE_P(Sizes, AppendPointTest, testing::Values(1, 100, 4096, 4097, 65536, 65537, 1'000'000));

TEST(AppendPoint, AnEmptyFileHasNothingToLose) {
  const TempDir dir;
  const UniqueFd fd(open((dir / "log").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  EXPECT_FALSE(AppendPoint(fd.get(), 0).WasCutSince());
}

}  // namespace
}  // namespace supervisor
