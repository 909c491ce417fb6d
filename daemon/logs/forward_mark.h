#pragma once

#include <optional>
#include <string>

#include "common/unique_fd.h"
#include "daemon/logs/log_reader.h"

namespace supervisor {

// How far one log has been forwarded, in a small file of the state directory, written in place: what is written
// survives this process, however it ends, so the next daemon goes on there. One thread.
class ForwardMark {
 public:
  struct Place {
    LogPosition position;      // of the next line
    bool within_line = false;  // a part of that line has been sent
  };

  explicit ForwardMark(std::string path) : path_(std::move(path)) {}

  // Nothing where there is none, or it makes no sense.
  std::optional<Place> Read();
  // A disk that refuses it costs that the next daemon begins elsewhere.
  void Write(const Place& place);
  void Remove();
  // The log has another name now, and with it its mark. What is at `path` is replaced.
  void MoveTo(const std::string& path);

 private:
  bool Open();

  std::string path_;
  UniqueFd file_;
};

// "DEVICE INODE BIRTH_NS OFFSET WITHIN_LINE\n", filled up with spaces to one length. Pure.
std::string FormatForwardPlace(const ForwardMark::Place& place);
std::optional<ForwardMark::Place> ParseForwardPlace(const std::string& text);

}  // namespace supervisor
