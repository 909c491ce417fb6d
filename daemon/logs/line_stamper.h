#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace supervisor {

// Puts a prefix before every line, and remembers how far it came when the disk took only a part. Pure.
class LineStamper {
 public:
  // `prefix` goes before each line of `waiting`, the first one's only if `at_line_start`. At most about `room` bytes
  // come out, whole lines as far as possible; nothing comes out when not even one line fits. `force`: then a piece of
  // it does. Valid until the next call.
  std::string_view Stamp(std::string_view waiting, std::string_view prefix, bool at_line_start, uint64_t room,
                         bool force);

  // `written` bytes of what Stamp gave are in the file: how many bytes of `waiting` those stand for. A prefix that
  // was cut is completed by the next Stamp.
  uint64_t Written(uint64_t written);

  // The file was changed, or bytes were dropped: what was to be completed is not.
  void Forget() { unfinished_prefix_.clear(); }

 private:
  struct Piece {
    uint64_t prefix_bytes;
    uint64_t raw_bytes;
  };
  std::string out_;
  std::vector<Piece> pieces_;
  std::string unfinished_prefix_;
};

}  // namespace supervisor
