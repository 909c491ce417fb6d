#include "daemon/config/config_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/errno_status.h"
#include "common/unique_fd.h"
#include "daemon/config/message_text.h"

namespace supervisor {
namespace {

constexpr int kDeepestDirectory = 256;
constexpr size_t kReadSize = size_t{64} << 10;

std::string Mode(mode_t mode) { return fmt::format("{:04o}", mode & 07777U); }

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

std::optional<std::string> WrongFileType(const struct stat& file) {
  if (S_ISDIR(file.st_mode)) {
    return "is a directory (expected a file in it, such as supervisor_config.json; name one with -c FILE)";
  }
  if (!S_ISREG(file.st_mode)) {
    return "is no regular file (expected one, not a device, pipe or socket)";
  }
  if (file.st_size > static_cast<off_t>(kLargestConfigFile)) {
    return fmt::format("is {} bytes long (expected at most {})", file.st_size, kLargestConfigFile);
  }
  return std::nullopt;
}

// Where the descriptor's file really lies; empty where /proc does not say.
std::string RealPath(int fd) {
  std::string path(PATH_MAX, '\0');
  const ssize_t length = readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), path.data(), path.size());
  path.resize(length > 0 ? static_cast<size_t>(length) : 0);
  return path;
}

// Climbs by "..", which is the real path whatever symbolic links led here.
std::optional<std::string> DistrustedDirectoryAbove(const std::string& directory) {
  UniqueFd fd(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  struct stat below = {};
  for (int depth = 0; depth < kDeepestDirectory; ++depth) {
    struct stat here = {};
    if (!fd || fstat(fd.get(), &here) != 0) {
      return fmt::format("cannot be trusted, as a directory above it cannot be looked at: {}", ErrnoText(errno));
    }
    if (depth > 0 && here.st_dev == below.st_dev && here.st_ino == below.st_ino) {
      return std::nullopt;
    }
    const std::string real = RealPath(fd.get());
    if (std::optional<std::string> distrust = DirectoryDistrust(real.empty() ? directory : real, here)) {
      return distrust;
    }
    below = here;
    fd.Reset(openat(fd.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  return std::nullopt;
}

std::optional<std::string> Distrust(const std::string& path, int fd, const struct stat& file) {
  if (geteuid() != 0) {
    return std::nullopt;
  }
  if (std::optional<std::string> distrust = FileDistrust(path, file)) {
    return distrust;
  }
  if (std::optional<std::string> distrust = DistrustedDirectoryAbove(DirectoryOf(path))) {
    return distrust;
  }
  const std::string real = RealPath(fd);
  const bool is_elsewhere = real.starts_with('/') && DirectoryOf(real) != DirectoryOf(path);
  return is_elsewhere ? DistrustedDirectoryAbove(DirectoryOf(real)) : std::nullopt;
}

std::variant<std::string, UnusableFile> ReadAll(int fd) {
  std::string text;
  while (text.size() <= kLargestConfigFile) {
    const size_t length = text.size();
    text.resize(length + kReadSize);
    const ssize_t got = read(fd, text.data() + length, kReadSize);
    text.resize(length + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got == 0) {
      return text;
    }
    if (got < 0 && errno != EINTR) {
      return UnusableFile{fmt::format("cannot be read: {}", ErrnoText(errno))};
    }
  }
  return UnusableFile{fmt::format("is too long (expected at most {} bytes)", kLargestConfigFile)};
}

}  // namespace

std::variant<std::string, UnusableFile> ReadConfigFile(const std::string& path, FileTrust trust) {
  // O_NONBLOCK: a FIFO that nobody writes must not hold the daemon up. It means nothing for a regular file.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  struct stat file = {};
  if (!fd || fstat(fd.get(), &file) != 0) {
    return OpenFailure(path, errno);
  }
  if (std::optional<std::string> wrong = WrongFileType(file)) {
    return UnusableFile{*std::move(wrong)};
  }
  if (trust == FileTrust::kChecked) {
    if (std::optional<std::string> distrust = Distrust(path, fd.get(), file)) {
      return UnusableFile{*std::move(distrust)};
    }
  }
  return ReadAll(fd.get());
}

std::optional<std::string> FileDistrust(const std::string& path, const struct stat& file) {
  const std::string word = ShellWord(path);
  if (file.st_uid != 0) {
    return fmt::format(
        "belongs to uid {}, who could so run anything as root (run: chown root:root {} && chmod go-w {})", file.st_uid,
        word, word);
  }
  if ((file.st_mode & S_IWOTH) != 0) {
    return fmt::format("is writable by everyone (mode {}), who could so run anything as root (run: chmod go-w {})",
                       Mode(file.st_mode), word);
  }
  if ((file.st_mode & S_IWGRP) != 0 && file.st_gid != 0) {
    return fmt::format(
        "is writable by the group {} (mode {}), which could so run anything as root (run: chmod go-w {})", file.st_gid,
        Mode(file.st_mode), word);
  }
  return std::nullopt;
}

std::optional<std::string> DirectoryDistrust(const std::string& path, const struct stat& directory) {
  if ((directory.st_mode & S_IWOTH) == 0 || (directory.st_mode & S_ISVTX) != 0) {
    return std::nullopt;
  }
  return fmt::format(
      "lies below {}, where everyone can exchange it (mode {}) and so run anything as root (run: chmod o-w {})", path,
      Mode(directory.st_mode), ShellWord(path));
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
