#include "daemon/health/content_decoder.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "daemon/health/text.h"

namespace supervisor {
namespace {

constexpr int kWindowBits = 15;
constexpr int kGzip = 16;  // added to the window bits (zlib.h, inflateInit2)
constexpr size_t kZlibHeaderBytes = 2;
constexpr size_t kChunkBytes = 16 << 10;

std::string Normalized(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c != ' ' && c != '\t') {
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return out;
}

// "deflate" means zlib's format; many servers leave its header away (RFC 9110, section 8.4.1.2; RFC 1950, section 2.2).
bool IsZlibHeader(std::string_view bytes) {
  constexpr unsigned kDeflate = 8;
  constexpr unsigned kMethodMask = 0x0f;
  constexpr unsigned kCheck = 31;
  const auto first = static_cast<unsigned char>(bytes[0]);
  const auto second = static_cast<unsigned char>(bytes[1]);
  return (first & kMethodMask) == kDeflate && (first * 256U + second) % kCheck == 0;
}

}  // namespace

struct ContentDecoder::Stream {
  z_stream state{};
  bool works = false;
  std::string head;  // of "deflate", until its format can be told
  bool knows_format = true;
  bool began = false;
  bool ended = false;

  Stream() { works = inflateInit2(&state, kWindowBits + kGzip) == Z_OK; }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() {
    if (works) {
      inflateEnd(&state);
    }
  }
};

ContentDecoder::ContentDecoder(std::string_view coding) : coding_(Normalized(coding)) {
  if (coding_.empty() || coding_ == "identity") {
    return;
  }
  if (coding_ != "gzip" && coding_ != "x-gzip" && coding_ != "deflate") {
    error_ =
        fmt::format("the body's Content-Encoding {} is not understood (gzip and deflate are)", QuotedExcerpt(coding_));
    return;
  }
  stream_ = std::make_unique<Stream>();
  stream_->knows_format = coding_ != "deflate";
  if (!stream_->works) {
    error_ = "out of memory for the body's decompression";
  }
}

ContentDecoder::~ContentDecoder() = default;

bool ContentDecoder::is_cut_short() const { return stream_ != nullptr && stream_->began && !stream_->ended; }

bool ContentDecoder::Decode(std::string_view piece, const Sink& sink) {
  if (!error_.empty()) {
    return false;
  }
  return stream_ == nullptr ? sink(piece) : Inflate(piece, sink);
}

bool ContentDecoder::Inflate(std::string_view piece, const Sink& sink) {
  std::array<char, kChunkBytes> out;  // NOLINT(cppcoreguidelines-pro-type-member-init): inflate fills it
  std::string input = stream_->head + std::string(piece);  // zlib's interface is not const-correct
  z_stream& state = stream_->state;
  stream_->began = stream_->began || !input.empty();
  if (!stream_->knows_format) {
    if (input.size() < kZlibHeaderBytes) {
      stream_->head = input;
      return true;
    }
    stream_->head.clear();
    stream_->knows_format = true;
    inflateReset2(&state, IsZlibHeader(input) ? kWindowBits : -kWindowBits);
  }
  state.next_in = reinterpret_cast<Bytef*>(input.data());
  state.avail_in = static_cast<uInt>(input.size());
  while (state.avail_in > 0) {
    if (stream_->ended) {
      // Another member may follow (RFC 1952, section 2.2). What is none is padding, which gzip(1) ignores too.
      constexpr Bytef kGzipMagic = 0x1f;
      if (*state.next_in != kGzipMagic || inflateReset(&state) != Z_OK) {
        return true;
      }
      stream_->ended = false;
    }
    state.next_out = reinterpret_cast<Bytef*>(out.data());
    state.avail_out = static_cast<uInt>(out.size());
    const int code = inflate(&state, Z_NO_FLUSH);
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
      error_ = fmt::format("the body is no valid {} data", coding_);
      return false;
    }
    stream_->ended = code == Z_STREAM_END;
    const size_t count = out.size() - state.avail_out;
    if (count > 0 && !sink({out.data(), count})) {
      return false;
    }
    if (code == Z_BUF_ERROR && count == 0) {
      break;
    }
  }
  return true;
}

}  // namespace supervisor
