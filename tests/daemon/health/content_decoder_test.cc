#include "daemon/health/content_decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <string>

namespace supervisor {
namespace {

using testing::HasSubstr;

constexpr int kGzip = 15 + 16;
constexpr int kZlib = 15;
constexpr int kRaw = -15;

std::string Compressed(const std::string& text, int window_bits) {
  z_stream state{};
  EXPECT_EQ(deflateInit2(&state, Z_BEST_SPEED, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&state, text.size()) + 64, '\0');
  std::string input = text;
  state.next_in = reinterpret_cast<Bytef*>(input.data());
  state.avail_in = static_cast<uInt>(input.size());
  state.next_out = reinterpret_cast<Bytef*>(out.data());
  state.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&state, Z_FINISH), Z_STREAM_END);
  out.resize(out.size() - state.avail_out);
  deflateEnd(&state);
  return out;
}

// All that comes of the data, given in pieces of so many bytes; up to `most` of it are taken.
std::string Decoded(ContentDecoder& decoder, const std::string& data, size_t piece, size_t most = 1 << 20) {
  std::string out;
  for (size_t at = 0; at < data.size(); at += piece) {
    const bool goes_on = decoder.Decode(std::string_view(data).substr(at, piece), [&](std::string_view text) {
      out += text;
      return out.size() < most;
    });
    if (!goes_on) {
      break;
    }
  }
  return out;
}

TEST(ContentDecoder, UndoesWhatServersSend) {
  const std::string text(5000, 'a');
  for (const size_t piece : {1, 7, 100'000}) {
    for (const auto& [coding, bits] :
         {std::pair("gzip", kGzip), {" GZIP ", kGzip}, {"x-gzip", kGzip}, {"deflate", kZlib}, {"deflate", kRaw}}) {
      ContentDecoder decoder(coding);
      EXPECT_EQ(Decoded(decoder, Compressed(text, bits), piece), text) << coding << piece << decoder.error();
      EXPECT_FALSE(decoder.is_cut_short());
    }
  }
}

TEST(ContentDecoder, PassesOnWhatIsNotEncoded) {
  for (const char* coding : {"", "identity", "Identity"}) {
    ContentDecoder decoder(coding);
    EXPECT_EQ(Decoded(decoder, "plain", 2), "plain");
    EXPECT_FALSE(decoder.is_cut_short());
  }
}

TEST(ContentDecoder, ReadsAllMembersAndNoPadding) {
  ContentDecoder decoder("gzip");
  EXPECT_EQ(Decoded(decoder, Compressed("one ", kGzip) + Compressed("two", kGzip) + std::string(9, '\0'), 5),
            "one two");
  EXPECT_EQ(decoder.error(), "");
}

TEST(ContentDecoder, SaysWhatIsWrong) {
  ContentDecoder brotli("br");
  EXPECT_FALSE(brotli.Decode("x", [](std::string_view) { return true; }));
  EXPECT_THAT(brotli.error(), HasSubstr("\"br\" is not understood"));
  ContentDecoder twice("gzip, gzip");
  EXPECT_THAT(twice.error(), HasSubstr("not understood"));
  ContentDecoder plain("gzip");
  EXPECT_EQ(Decoded(plain, "no gzip at all", 100), "");
  EXPECT_EQ(plain.error(), "the body is no valid gzip data");
  std::string broken = Compressed(std::string(3000, 'b') + "tail", kGzip);
  broken[broken.size() - 5] = static_cast<char>(broken[broken.size() - 5] ^ 0x55);  // within the checksum
  ContentDecoder corrupt("gzip");
  Decoded(corrupt, broken, 10);
  EXPECT_EQ(corrupt.error(), "the body is no valid gzip data");
}

TEST(ContentDecoder, NoticesThatTheEndIsMissing) {
  const std::string whole = Compressed("all is well", kGzip);
  ContentDecoder decoder("gzip");
  Decoded(decoder, whole.substr(0, whole.size() - 4), 3);
  EXPECT_TRUE(decoder.is_cut_short());
  EXPECT_EQ(decoder.error(), "");
  const ContentDecoder empty("gzip");  // a body without a byte is no error
  EXPECT_FALSE(empty.is_cut_short());
}

TEST(ContentDecoder, ABombCostsWhatIsReadOfIt) {
  const std::string bomb = Compressed(std::string(64 << 20, '\0'), kGzip);
  ASSERT_LT(bomb.size(), 1u << 20);
  ContentDecoder decoder("gzip");
  const std::string out = Decoded(decoder, bomb, bomb.size(), 1 << 20);
  EXPECT_LT(out.size(), (1u << 20) + (64 << 10));
}

}  // namespace
}  // namespace supervisor
