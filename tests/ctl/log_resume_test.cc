#include "ctl/render/log_resume.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

class LogResumeTest : public testing::Test {
 protected:
  // A log of numbered lines, as a daemon would send it from `from` on.
  static std::string Numbered(int from, int to) {
    std::string text;
    for (int i = from; i < to; ++i) {
      text += "line " + std::to_string(1000000 + i) + "\n";  // 13 bytes each
    }
    return text;
  }
  std::string Accept(const std::string& data, uint64_t offset) {
    v1::LogChunk chunk;
    chunk.set_id("web");
    chunk.set_stream(v1::LOG_STREAM_STDOUT);
    chunk.set_data(data);
    chunk.set_offset(offset);
    const LogResume::Fresh fresh = resume_.Accept(chunk);
    missed_ += fresh.missed_bytes;
    return std::string(fresh.data);
  }

  LogResume resume_;
  uint64_t missed_ = 0;
};

TEST_F(LogResumeTest, PassesEverythingUntilTheConnectionIsLost) {
  EXPECT_EQ(Accept("abc\n", 100), "abc\n");
  EXPECT_EQ(Accept("def\n", 104), "def\n");
  EXPECT_EQ(Accept("new file\n", 0), "new file\n");
}

TEST_F(LogResumeTest, DropsExactlyWhatWasShown) {
  Accept(Numbered(0, 100), 0);
  resume_.Reconnected();
  EXPECT_EQ(Accept(Numbered(50, 90), 50 * 13), "");
  EXPECT_EQ(Accept(Numbered(90, 110), 90 * 13), Numbered(100, 110));
  EXPECT_EQ(Accept(Numbered(110, 120), 110 * 13), Numbered(110, 120));
  EXPECT_EQ(missed_, 0U);
}

TEST_F(LogResumeTest, GoesOnInTheNextFileAfterRotation) {
  Accept(Numbered(0, 100), 0);
  resume_.Reconnected();
  EXPECT_EQ(Accept(Numbered(60, 100), 60 * 13), "");  // the old file's end, all shown
  EXPECT_EQ(Accept(Numbered(100, 105), 0), Numbered(100, 105));
  EXPECT_EQ(Accept(Numbered(105, 106), 65), Numbered(105, 106));
}

TEST_F(LogResumeTest, RecognisesAnotherFileAtTheSamePlace) {
  Accept(Numbered(0, 100), 0);
  resume_.Reconnected();
  EXPECT_EQ(Accept(Numbered(500, 520), 0), Numbered(500, 520));
}

TEST_F(LogResumeTest, CountsWhatItCannotHave) {
  Accept(Numbered(0, 10), 0);
  resume_.Reconnected();
  EXPECT_EQ(Accept(Numbered(20, 30), 260), Numbered(20, 30));
  EXPECT_EQ(missed_, 130U);
}

TEST_F(LogResumeTest, SurvivesSeveralLosses) {
  Accept(Numbered(0, 10), 0);
  for (int round = 1; round < 20; ++round) {
    resume_.Reconnected();
    EXPECT_EQ(Accept(Numbered(0, 10 * (round + 1)), 0), Numbered(10 * round, 10 * (round + 1)));
  }
}

TEST_F(LogResumeTest, KeepsOnlyTheEndOfALongLog) {
  const std::string megabyte = Numbered(0, 80000);  // 1,040,000 bytes
  for (uint64_t i = 0; i < 20; ++i) {
    Accept(megabyte, i * megabyte.size());
  }
  resume_.Reconnected();
  EXPECT_EQ(Accept(megabyte, 5 * megabyte.size()), "");   // older than what is kept
  EXPECT_EQ(Accept(megabyte, 19 * megabyte.size()), "");  // compared
  EXPECT_EQ(Accept("fresh\n", 20 * megabyte.size()), "fresh\n");
}

}  // namespace
}  // namespace supervisor
