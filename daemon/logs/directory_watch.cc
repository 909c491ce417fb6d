#include "daemon/logs/directory_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

namespace supervisor {
namespace {

// Appearing names are of no interest: a file in our file's place means that ours went first.
constexpr uint32_t kGone = IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

}  // namespace

DirectoryWatch::DirectoryWatch(Loop& loop, Callback on_gone)
    : on_gone_(std::move(on_gone)), inotify_(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
  if (inotify_) {
    watch_ = loop.WatchFd(inotify_.get(), Loop::Interest::kRead, [this](Loop::Ready) { ReadEvents(); });
  }
}

int DirectoryWatch::Add(const std::string& path) {
  if (!inotify_) {
    return kNone;
  }
  const int directory = inotify_add_watch(inotify_.get(), path.c_str(), kGone);
  if (directory < 0) {
    return kNone;
  }
  ++users_[directory];
  return directory;
}

void DirectoryWatch::Remove(int directory) {
  const auto found = users_.find(directory);
  if (found != users_.end() && --found->second == 0) {
    users_.erase(found);
    inotify_rm_watch(inotify_.get(), directory);
  }
}

void DirectoryWatch::ReadEvents() {
  alignas(inotify_event) char buffer[16384];
  for (;;) {
    const ssize_t got = read(inotify_.get(), buffer, sizeof buffer);
    if (got <= 0) {
      return;  // EAGAIN: no more
    }
    for (size_t at = 0; at + sizeof(inotify_event) <= static_cast<size_t>(got);) {
      inotify_event event{};
      std::memcpy(&event, buffer + at, sizeof event);
      const std::string name = event.len > 0 ? std::string(buffer + at + offsetof(inotify_event, name)) : std::string();
      at += sizeof event + event.len;
      if ((event.mask & IN_Q_OVERFLOW) != 0) {
        on_gone_(kAll, "");
        continue;
      }
      if ((event.mask & IN_IGNORED) != 0) {
        users_.erase(event.wd);
      }
      on_gone_(event.wd, name);
    }
  }
}

}  // namespace supervisor
