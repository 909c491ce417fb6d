#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace supervisor {

// Reads one configuration file into memory. Any thread. What is checked is what is read: the file is opened once and
// judged by its descriptor, never by its name a second time.

inline constexpr size_t kLargestConfigFile = size_t{16} << 20;

// Why a file cannot be used: a sentence for ConfigError::message.
struct UnusableFile {
  std::string message;
};

enum class FileTrust {
  kChecked,    // run by root, the file must belong to root and no other may be able to change it
  kUnchecked,  // for a caller that takes no command from it
};

std::variant<std::string, UnusableFile> ReadConfigFile(const std::string& path, FileTrust trust);

// Why root must not obey the file, or nothing. What a configuration says runs as root, so whoever can write it is root.
std::optional<std::string> FileDistrust(const std::string& path, const struct stat& file);

// The same for a directory above it: where anyone may rename and no sticky bit stands, anyone can exchange the file.
std::optional<std::string> DirectoryDistrust(const std::string& path, const struct stat& directory);

// `path` below `directory` unless it is absolute; "./" before it dropped. ".." is kept, since with symbolic links only
// the kernel can resolve it.
std::string AbsolutePath(std::string_view directory, std::string_view path);

// "/etc" for "/etc/x", "/" for "/x".
std::string DirectoryOf(const std::string& absolute_path);

}  // namespace supervisor
