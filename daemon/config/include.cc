#include "daemon/config/include.h"

#include <fmt/format.h>
#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>

#include "common/errno_status.h"
#include "daemon/config/config_file.h"
#include "daemon/config/message_text.h"

namespace supervisor {
namespace {

constexpr size_t kMostFiles = 1000;
constexpr std::string_view kMagic = "*?[";

// glob(3) gives its callback no argument to carry this in.
thread_local std::string directory_failure;

int NoteDirectoryFailure(const char* path, int error) {
  if (error == ENOENT || error == ENOTDIR) {
    return 0;
  }
  directory_failure = fmt::format("{}: {}", path, ErrnoText(error));
  return 1;
}

// The directory of the main file may hold what a pattern would take for magic.
std::string EscapeForGlob(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (kMagic.find(c) != std::string_view::npos || c == '\\') {
      out += '\\';
    }
    out += c;
  }
  return out;
}

std::vector<std::string> Glob(const std::string& pattern, int* result) {
  std::vector<std::string> paths;
  glob_t found = {};
  // NOLINTNEXTLINE(concurrency-mt-unsafe): races only with GLOB_TILDE, which is not asked for
  *result = glob(pattern.c_str(), GLOB_NOSORT, &NoteDirectoryFailure, &found);
  for (size_t i = 0; *result == 0 && i < found.gl_pathc; ++i) {
    paths.emplace_back(found.gl_pathv[i]);
  }
  globfree(&found);
  return paths;
}

bool IsSameFile(const std::string& a, const std::string& b) {
  struct stat one = {};
  struct stat other = {};
  return stat(a.c_str(), &one) == 0 && stat(b.c_str(), &other) == 0 && one.st_dev == other.st_dev &&
         one.st_ino == other.st_ino;
}

std::vector<std::string> FilesOf(const PlacedText& pattern, const ConfigSource& main, ErrorList& errors) {
  if (pattern.text.find_first_of(kMagic) == std::string::npos) {
    std::string path = AbsolutePath(main.directory(), pattern.text);
    struct stat file = {};
    if (stat(path.c_str(), &file) != 0) {
      errors.Add(main, pattern.offset, pattern.path,
                 fmt::format("{}: {} (a plain name must exist; a pattern such as \"conf.d/*.json\" may match nothing)",
                             path, ErrnoText(errno)));
      return {};
    }
    return {std::move(path)};
  }
  directory_failure.clear();
  int result = 0;
  std::vector<std::string> paths = Glob(AbsolutePath(EscapeForGlob(main.directory()), pattern.text), &result);
  if (result != 0 && result != GLOB_NOMATCH) {
    errors.Add(main, pattern.offset, pattern.path,
               fmt::format("cannot be searched: {}", directory_failure.empty() ? "out of memory" : directory_failure));
  }
  return paths;
}

}  // namespace

std::vector<IncludedFile> FindIncludedFiles(const std::vector<PlacedText>& patterns, const ConfigSource& main,
                                            ErrorList& errors) {
  std::map<std::string, PlacedText> by_path;
  for (const PlacedText& pattern : patterns) {
    for (const std::string& path : FilesOf(pattern, main, errors)) {
      if (!IsSameFile(path, main.file())) {
        by_path.emplace(path, pattern);
      }
    }
    if (by_path.size() > kMostFiles) {
      errors.Add(main, pattern.offset, pattern.path,
                 fmt::format("more than {} files are included (expected a narrower pattern)", kMostFiles));
      return {};
    }
  }
  std::vector<IncludedFile> files;
  files.reserve(by_path.size());
  for (const auto& [path, origin] : by_path) {
    files.push_back({path, origin});
  }
  return files;
}

}  // namespace supervisor
