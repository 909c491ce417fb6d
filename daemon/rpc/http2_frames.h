#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

namespace supervisor {

// Finds the frames in one direction of an HTTP/2 connection as its bytes pass by (RFC 9113, 4.1). It checks nothing:
// the server behind it does. Pure; one thread.
class Http2Frames {
 public:
  enum class From { kClient, kServer };  // a client's bytes begin with the preface (RFC 9113, 3.4)
  explicit Http2Frames(From from) : to_skip_(from == From::kClient ? kPrefaceBytes : 0) {}

  // RFC 9113, 6.
  enum class Type : uint8_t { kData = 0, kHeaders = 1, kResetStream = 3 };
  struct Frame {
    uint8_t type = 0;
    uint8_t flags = 0;
    uint32_t stream = 0;
    uint32_t length = 0;  // of the payload, bytes
    bool Is(Type which) const { return type == static_cast<uint8_t>(which); }
    // Of DATA and HEADERS: the sender says nothing more on this stream.
    bool EndsStream() const { return (flags & 1) != 0; }
  };
  // Calls `on_frame` for each frame whose header these bytes complete.
  void Feed(std::string_view bytes, const std::function<void(const Frame&)>& on_frame);

 private:
  static constexpr size_t kPrefaceBytes = 24;
  static constexpr size_t kHeaderBytes = 9;

  size_t to_skip_;  // of a preface or a payload
  std::array<unsigned char, kHeaderBytes> header_{};
  size_t header_size_ = 0;
};

}  // namespace supervisor
