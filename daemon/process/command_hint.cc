#include "daemon/process/command_hint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <unistd.h>

#include <charconv>
#include <sstream>
#include <vector>

#include "common/atomic_file.h"

namespace supervisor {
namespace {

constexpr size_t kMostShown = 200;

// fs.nr_open; nothing where /proc does not say.
std::optional<rlim_t> MostOpenFiles() {
  const absl::StatusOr<std::string> text = ReadWholeFile("/proc/sys/fs/nr_open", 64);
  rlim_t value = 0;
  if (!text.ok() || std::from_chars(text->data(), text->data() + text->size(), value).ec != std::errc()) {
    return std::nullopt;
  }
  return value;
}

}  // namespace

std::string ArgumentsHint(const std::string& command) {
  if (command.find_first_of(" \t\n") == std::string::npos || command.size() > kMostShown) {
    return "";
  }
  std::istringstream words(command);
  std::string program;
  words >> program;
  std::vector<std::string> args;
  for (std::string word; words >> word;) {
    args.push_back(fmt::format("\"{}\"", word));
  }
  if (args.empty()) {
    return fmt::format("a blank is part of the name: \"command\": \"{}\"", program);
  }
  return fmt::format("arguments belong in \"args\": \"command\": \"{}\", \"args\": [{}]", program,
                     fmt::join(args, ", "));
}

std::optional<std::string> OpenFilesProblem(rlim_t wanted) {
  if (geteuid() == 0) {
    const std::optional<rlim_t> most = MostOpenFiles();
    if (most && wanted > *most) {
      return fmt::format("the system allows {} at most (sysctl fs.nr_open raises that)", *most);
    }
    return std::nullopt;
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max != RLIM_INFINITY && wanted > limit.rlim_max) {
    return fmt::format("the hard limit of supervisord is {} (raise that with ulimit -Hn, or LimitNOFILE= in its unit)",
                       limit.rlim_max);
  }
  return std::nullopt;
}

}  // namespace supervisor
