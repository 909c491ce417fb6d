#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "common/file_trust.h"

namespace supervisor {

// Reads one configuration file into memory. Any thread. What is checked is what is read: see common/trusted_path.h.

inline constexpr size_t kLargestConfigFile = size_t{16} << 20;

// Why a file cannot be used: a sentence for ConfigError::message.
struct UnusableFile {
  std::string message;
};

// What a configuration says runs as the daemon's user, so whoever can write it is that user. kAny: also for a caller
// that takes no command from it.
std::variant<std::string, UnusableFile> ReadConfigFile(const std::string& path, FileTrust trust);

// Returns the number of the descriptor that `path` stands for: /dev/stdin, /dev/fd/N or /proc/self/fd/N. Such a
// configuration is what the caller of this program opened: a pipe, a here-document, a file.
std::optional<int> InheritedDescriptor(const std::string& path);

// Reads that descriptor to its end, and returns the same text for the rest of this process's life: a pipe can be read
// once. A regular file is read from its start, and has to be trusted itself; the way to it does not matter.
std::variant<std::string, UnusableFile> ReadInheritedConfig(const std::string& path, int fd, FileTrust trust);

// `path` below `directory` unless it is absolute; "./" before it dropped. ".." is kept, since with symbolic links only
// the kernel can resolve it.
std::string AbsolutePath(std::string_view directory, std::string_view path);

// "/etc" for "/etc/x", "/" for "/x".
std::string DirectoryOf(const std::string& absolute_path);

}  // namespace supervisor
