#include "daemon/config/config_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <map>
#include <mutex>
#include <system_error>
#include <utility>

#include "common/errno_status.h"
#include "common/trusted_path.h"
#include "common/unique_fd.h"

namespace supervisor {
namespace {

constexpr size_t kReadSize = size_t{64} << 10;

UnusableFile OpenFailure(const std::string& path, int error) {
  std::string message = fmt::format("cannot be opened: {}", ErrnoText(error));
  if (error == ENOENT || error == ENOTDIR) {
    const std::string directory = DirectoryOf(path);
    const bool has_directory = access(directory.c_str(), F_OK) == 0;
    message += has_directory ? " (create it, or name another file with -c FILE)"
                             : fmt::format(" (the directory {} does not exist either; name another file with -c FILE)",
                                           directory);
  } else if (error == EACCES) {
    message += fmt::format(" (uid {} may not read it: change its owner or mode, or name another file with -c FILE)",
                           geteuid());
  }
  return {std::move(message)};
}

UnusableFile TooLong(off_t size) {
  return {fmt::format("is {} bytes long (expected at most {})", size, kLargestConfigFile)};
}

UnusableFile Unusable(const std::string& path, const PathProblem& problem) {
  switch (problem.kind) {
    case PathProblem::Kind::kErrno:
      return problem.error == EAGAIN ? UnusableFile{problem.what} : OpenFailure(path, problem.error);
    case PathProblem::Kind::kDirectory:
      return {"is a directory (expected a file in it, such as supervisor_config.json; name one with -c FILE)"};
    case PathProblem::Kind::kNotRegular:
    case PathProblem::Kind::kDistrusted:
      return {problem.what};
  }
  return {problem.what};
}

// Waits where the descriptor was opened non-blocking and has nothing yet.
ssize_t ReadSome(int fd, char* to, size_t size, std::optional<off_t> offset) {
  for (;;) {
    const ssize_t got = offset ? pread(fd, to, size, *offset) : read(fd, to, size);
    if (got >= 0 || (errno != EINTR && errno != EAGAIN)) {
      return got;
    }
    if (errno == EAGAIN) {
      pollfd readable{.fd = fd, .events = POLLIN, .revents = 0};
      poll(&readable, 1, -1);
    }
  }
}

// `is_seekable`: from the start, wherever others have read to.
std::variant<std::string, UnusableFile> ReadAll(int fd, bool is_seekable) {
  std::string text;
  while (text.size() <= kLargestConfigFile) {
    const size_t length = text.size();
    text.resize(length + kReadSize);
    const ssize_t got = ReadSome(fd, text.data() + length, kReadSize,
                                 is_seekable ? std::optional<off_t>(static_cast<off_t>(length)) : std::nullopt);
    text.resize(length + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got == 0) {
      return text;
    }
    if (got < 0) {
      return UnusableFile{fmt::format("cannot be read: {}", ErrnoText(errno))};
    }
  }
  return UnusableFile{fmt::format("is too long (expected at most {} bytes)", kLargestConfigFile)};
}

std::variant<std::string, UnusableFile> ReadDescriptor(const std::string& path, int fd, FileTrust trust) {
  struct stat file = {};
  if (fstat(fd, &file) != 0) {
    return UnusableFile{fmt::format("cannot be read: {} (descriptor {} has to be open where supervisord is started)",
                                    ErrnoText(errno), fd)};
  }
  if (S_ISDIR(file.st_mode)) {
    return UnusableFile{"is a directory (expected a file or a pipe)"};
  }
  const bool is_regular = S_ISREG(file.st_mode);
  if (is_regular) {
    if (const std::optional<PathProblem> problem = JudgeOpenFile(fd, path, OwnTrust(trust))) {
      return UnusableFile{problem->what};
    }
  }
  return ReadAll(fd, is_regular);
}

}  // namespace

std::variant<std::string, UnusableFile> ReadConfigFile(const std::string& path, FileTrust trust) {
  std::variant<UniqueFd, PathProblem> opened = WalkToFile(path, O_RDONLY, OwnTrust(trust));
  if (const auto* problem = std::get_if<PathProblem>(&opened)) {
    return Unusable(path, *problem);
  }
  const UniqueFd fd = std::get<UniqueFd>(std::move(opened));
  struct stat file = {};
  if (fstat(fd.get(), &file) == 0 && file.st_size > static_cast<off_t>(kLargestConfigFile)) {
    return TooLong(file.st_size);
  }
  return ReadAll(fd.get(), true);
}

std::optional<int> InheritedDescriptor(const std::string& path) {
  if (path == "/dev/stdin") {
    return STDIN_FILENO;
  }
  for (const std::string_view directory : {std::string_view("/dev/fd/"), std::string_view("/proc/self/fd/")}) {
    int fd = -1;
    if (path.starts_with(directory)) {
      const char* end = path.data() + path.size();
      const auto [after, error] = std::from_chars(path.data() + directory.size(), end, fd);
      return error == std::errc() && after == end && fd >= 0 ? std::optional<int>(fd) : std::nullopt;
    }
  }
  return std::nullopt;
}

std::variant<std::string, UnusableFile> ReadInheritedConfig(const std::string& path, int fd, FileTrust trust) {
  static std::mutex mutex;
  static std::map<int, std::string> texts;
  const std::lock_guard lock(mutex);
  if (const auto known = texts.find(fd); known != texts.end()) {
    return known->second;
  }
  std::variant<std::string, UnusableFile> text = ReadDescriptor(path, fd, trust);
  if (const auto* read = std::get_if<std::string>(&text)) {
    texts.emplace(fd, *read);
  }
  return text;
}

std::string AbsolutePath(std::string_view directory, std::string_view path) {
  if (path.starts_with('/')) {
    return std::string(path);
  }
  while (path.starts_with("./")) {
    path.remove_prefix(std::min(path.find_first_not_of('/', 1), path.size()));
  }
  if (path.empty() || path == ".") {
    return std::string(directory);
  }
  return fmt::format("{}{}{}", directory, directory.ends_with('/') ? "" : "/", path);
}

std::string DirectoryOf(const std::string& absolute_path) {
  const size_t slash = absolute_path.rfind('/');
  return slash == std::string::npos || slash == 0 ? "/" : absolute_path.substr(0, slash);
}

}  // namespace supervisor
