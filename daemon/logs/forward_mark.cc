#include "daemon/logs/forward_mark.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <sstream>

namespace supervisor {
namespace {

constexpr size_t kBytes = 128;  // five numbers of 20 digits at most

}  // namespace

std::string FormatForwardPlace(const ForwardMark::Place& place) {
  const LogPosition& at = place.position;
  const std::string text = fmt::format("{} {} {} {} {}", at.file.device, at.file.inode, at.file.born_ns, at.offset,
                                       place.within_line ? 1 : 0);
  return fmt::format("{:<{}}\n", text, kBytes - 1);
}

std::optional<ForwardMark::Place> ParseForwardPlace(const std::string& text) {
  if (text.size() != kBytes || text.back() != '\n') {
    return std::nullopt;
  }
  ForwardMark::Place place;
  int within = 0;
  std::istringstream words(text);
  LogPosition& at = place.position;
  if (!(words >> at.file.device >> at.file.inode >> at.file.born_ns >> at.offset >> within) || within < 0 ||
      within > 1) {
    return std::nullopt;
  }
  place.within_line = within == 1;
  return place;
}

bool ForwardMark::Open() {
  if (!file_) {
    file_.Reset(open(path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600));
  }
  return file_.valid();
}

std::optional<ForwardMark::Place> ForwardMark::Read() {
  std::string text(kBytes, '\0');
  if (!Open() || pread(file_.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return std::nullopt;
  }
  return ParseForwardPlace(text);
}

void ForwardMark::Write(const Place& place) {
  const std::string text = FormatForwardPlace(place);
  if (Open()) {
    const ssize_t written = pwrite(file_.get(), text.data(), text.size(), 0);
    static_cast<void>(written);
  }
}

void ForwardMark::Remove() {
  file_.Reset();
  unlink(path_.c_str());
}

void ForwardMark::MoveTo(const std::string& path) {
  rename(path_.c_str(), path.c_str());  // should it fail, the log is forwarded from its present end on
  path_ = path;
}

}  // namespace supervisor
