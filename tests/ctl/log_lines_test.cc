#include "ctl/render/log_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace supervisor {
namespace {

using testing::ElementsAre;

v1::LogChunk Chunk(const std::string& id, const std::string& data, v1::LogStream stream = v1::LOG_STREAM_STDOUT) {
  v1::LogChunk chunk;
  chunk.set_id(id);
  chunk.set_stream(stream);
  chunk.set_data(data);
  return chunk;
}

class LogLinesTest : public testing::Test {
 protected:
  std::vector<std::string> got_;
  LogLines lines_{[this](const v1::LogChunk& origin, std::string_view line) {
    got_.push_back(origin.id() + "|" + std::string(line));
  }};
};

TEST_F(LogLinesTest, JoinsPiecesOfOneLine) {
  lines_.Feed(Chunk("a", "one\ntw"));
  lines_.Feed(Chunk("a", "o\nthr"));
  EXPECT_THAT(got_, ElementsAre("a|one", "a|two"));
  lines_.Flush();
  EXPECT_THAT(got_, ElementsAre("a|one", "a|two", "a|thr"));
}

TEST_F(LogLinesTest, KeepsInterleavedServicesAndStreamsApart) {
  lines_.Feed(Chunk("a", "left-"));
  lines_.Feed(Chunk("b", "right-"));
  lines_.Feed(Chunk("a", "err\n", v1::LOG_STREAM_STDERR));
  lines_.Feed(Chunk("a", "done\n"));
  lines_.Feed(Chunk("b", "done\n"));
  EXPECT_THAT(got_, ElementsAre("a|err", "a|left-done", "b|right-done"));
}

TEST_F(LogLinesTest, KeepsEmptyLinesAndAnyBytes) {
  lines_.Feed(Chunk("a", std::string("\n\n\0\xFF\n", 5)));
  EXPECT_THAT(got_, ElementsAre("a|", "a|", std::string("a|\0\xFF", 4)));
}

TEST_F(LogLinesTest, HandsOverALineThatNeverEnds) {
  const std::string piece(LogLines::kLongestLine / 4, 'x');
  for (int i = 0; i < 9; ++i) {
    lines_.Feed(Chunk("a", piece));
  }
  ASSERT_EQ(got_.size(), 2U);
  EXPECT_EQ(got_[0].size(), LogLines::kLongestLine + 2);
}

}  // namespace
}  // namespace supervisor
