#include "daemon/rpc/http2_frames.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace supervisor {
namespace {

constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

std::string FrameBytes(uint8_t type, uint8_t flags, uint32_t stream, size_t length) {
  std::string bytes;
  for (const int shift : {16, 8, 0}) {
    bytes += static_cast<char>(length >> shift);
  }
  bytes += static_cast<char>(type);
  bytes += static_cast<char>(flags);
  for (const int shift : {24, 16, 8, 0}) {
    bytes += static_cast<char>(stream >> shift);
  }
  return bytes + std::string(length, 'x');
}

struct Found {
  uint8_t type;
  uint8_t flags;
  uint32_t stream;
  uint32_t length;
  bool operator==(const Found&) const = default;
};

std::vector<Found> FindIn(const std::string& bytes, size_t piece, Http2Frames::From from) {
  Http2Frames frames(from);
  std::vector<Found> found;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    frames.Feed(std::string_view(bytes).substr(at, piece), [&](const Http2Frames::Frame& frame) {
      found.push_back({frame.type, frame.flags, frame.stream, frame.length});
    });
  }
  return found;
}

TEST(Http2Frames, FindsFramesHoweverTheirBytesArrive) {
  const std::string frames = FrameBytes(4, 0, 0, 18) + FrameBytes(1, 4, 1, 70'000) + FrameBytes(3, 0, 1, 4) +
                             FrameBytes(0, 1, 0x7fffffff, 0) + FrameBytes(6, 1, 0, 8);
  const std::vector<Found> expected = {
      {4, 0, 0, 18}, {1, 4, 1, 70'000}, {3, 0, 1, 4}, {0, 1, 0x7fffffff, 0}, {6, 1, 0, 8}};
  for (const size_t piece : {size_t{1}, size_t{2}, size_t{9}, size_t{10}, size_t{4096}, size_t{1} << 20}) {
    EXPECT_EQ(FindIn(std::string(kPreface) + frames, piece, Http2Frames::From::kClient), expected) << piece;
    EXPECT_EQ(FindIn(frames, piece, Http2Frames::From::kServer), expected) << piece;
  }
}

TEST(Http2Frames, TheReservedBitIsNoPartOfTheStream) {
  EXPECT_EQ(FindIn(FrameBytes(1, 0, 0x80000005, 0), 64, Http2Frames::From::kServer).front().stream, 5u);
}

TEST(Http2Frames, AFrameIsFoundBeforeItsPayload) {
  const std::string bytes = FrameBytes(0, 0, 3, 1'000);
  EXPECT_EQ(FindIn(bytes.substr(0, 9), 9, Http2Frames::From::kServer).size(), 1u);
  EXPECT_TRUE(FindIn(bytes.substr(0, 8), 8, Http2Frames::From::kServer).empty());
}

}  // namespace
}  // namespace supervisor
