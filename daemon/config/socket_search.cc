#include "daemon/config/socket_search.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <utility>
#include <variant>

#include "common/errno_status.h"
#include "daemon/config/config_file.h"
#include "daemon/config/config_source.h"
#include "daemon/config/interpolate.h"
#include "daemon/config/json_parser.h"

namespace supervisor {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

std::optional<std::string> FromProcessEnvironment(const std::string& name) {
  const char* value = std::getenv(name.c_str());  // NOLINT(concurrency-mt-unsafe): nothing here sets variables
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

// Reads a text as far as strings, braces and brackets go.
class SocketScanner {
 public:
  explicit SocketScanner(std::string_view text) : text_(text) {}

  std::vector<std::string> Scan() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '"') {
        TakeString();
        continue;
      }
      if (c == '{' || c == '[') {
        open_.push_back(std::exchange(key_, {}));
      } else if ((c == '}' || c == ']') && !open_.empty()) {
        open_.pop_back();
      }
      ++at_;
    }
    std::vector<std::string> found = std::move(in_global_);
    for (std::string& socket : elsewhere_) {
      AddTo(found, std::move(socket));
    }
    return found;
  }

 private:
  // The end of the string that begins at `begin`, behind its closing quote; npos where it has none on its line.
  size_t EndOfString(size_t begin) const {
    for (size_t i = begin + 1; i < text_.size() && text_[i] != '\n'; ++i) {
      if (text_[i] == '\\') {
        ++i;
      } else if (text_[i] == '"') {
        return i + 1;
      }
    }
    return std::string_view::npos;
  }

  std::optional<std::string> Decode(size_t begin, size_t end) const {
    ParsedJson parsed = ParseJson(text_.substr(begin, end - begin));
    return parsed.root && parsed.root->kind == JsonKind::kString ? std::optional(std::move(parsed.root->text))
                                                                 : std::nullopt;
  }

  void TakeString() {
    const size_t begin = at_;
    const size_t end = EndOfString(begin);
    if (end == std::string_view::npos) {
      at_ = std::min(text_.find('\n', begin), text_.size());  // the next line is read for itself
      return;
    }
    at_ = end;
    const size_t colon = text_.find_first_not_of(kBlanks, end);
    if (colon == std::string_view::npos || text_[colon] != ':') {
      return;
    }
    key_ = Decode(begin, end).value_or("");
    const size_t value = text_.find_first_not_of(kBlanks, colon + 1);
    if (key_ != "socket" || value == std::string_view::npos || text_[value] != '"') {
      return;
    }
    const size_t value_end = EndOfString(value);
    std::optional<std::string> socket = value_end == std::string_view::npos ? std::nullopt : Decode(value, value_end);
    if (socket) {
      AddTo(!open_.empty() && open_.back() == "global" ? in_global_ : elsewhere_, *std::move(socket));
      at_ = value_end;
    }
  }

  static void AddTo(std::vector<std::string>& sockets, std::string socket) {
    if (!socket.empty() && std::ranges::find(sockets, socket) == sockets.end()) {
      sockets.push_back(std::move(socket));
    }
  }

  const std::string_view text_;
  size_t at_ = 0;
  std::string key_;                // the last one
  std::vector<std::string> open_;  // the keys of the objects and arrays around
  std::vector<std::string> in_global_;
  std::vector<std::string> elsewhere_;
};

// As the configuration's reader makes a path of it.
std::optional<std::string> PathOf(const std::string& written, const std::string& directory,
                                  const EnvironmentLookup& environment) {
  const Interpolated result = Interpolate(written, environment, InstanceRule::kRefuse);
  if (!result.problems.empty() || result.text.empty()) {
    return std::nullopt;
  }
  return AbsolutePath(directory, result.text);
}

SocketSearch Guess(const ConfigSource& source, const EnvironmentLookup& environment, std::string trouble) {
  SocketSearch search{.outcome = SocketSearch::Outcome::kGuessed, .sockets = {}, .trouble = std::move(trouble)};
  for (const std::string& written : GuessSockets(source.text())) {
    if (std::optional<std::string> path = PathOf(written, source.directory(), environment)) {
      search.sockets.push_back(*std::move(path));
    }
  }
  return search;
}

SocketSearch SearchText(const ConfigSource& source, const EnvironmentLookup& environment) {
  const ParsedJson parsed = ParseJson(source.text());
  if (!parsed.root || !parsed.problems.empty()) {
    const JsonProblem& problem = parsed.problems.front();
    return Guess(source, environment, fmt::format("{}: {}", source.PlaceName(problem.offset), problem.message));
  }
  const auto unusable = [&](size_t offset, const char* what) {
    return SocketSearch{.outcome = SocketSearch::Outcome::kUnusable,
                        .sockets = {},
                        .trouble = fmt::format("{}: {}", source.PlaceName(offset), what)};
  };
  if (parsed.root->kind != JsonKind::kObject) {
    return unusable(parsed.root->offset, "is no object (expected the configuration)");
  }
  const JsonMember* global = parsed.root->Find("global");
  if (global == nullptr) {
    return {.outcome = SocketSearch::Outcome::kNotNamed, .sockets = {}, .trouble = {}};
  }
  if (global->value.kind != JsonKind::kObject) {
    return unusable(global->value.offset, "global is no object");
  }
  const JsonMember* socket = global->value.Find("socket");
  if (socket == nullptr) {
    return {.outcome = SocketSearch::Outcome::kNotNamed, .sockets = {}, .trouble = {}};
  }
  if (socket->value.kind != JsonKind::kString) {
    return unusable(socket->value.offset, "global.socket is no string");
  }
  std::optional<std::string> path = PathOf(socket->value.text, source.directory(), environment);
  if (!path) {
    return unusable(socket->value.offset, "global.socket is empty, or holds a variable that is not set here");
  }
  return {.outcome = SocketSearch::Outcome::kNamed, .sockets = {*std::move(path)}, .trouble = {}};
}

}  // namespace

std::vector<std::string> GuessSockets(std::string_view text) { return SocketScanner(text).Scan(); }

SocketSearch SearchSocket(const std::string& file, const EnvironmentLookup& environment) {
  struct stat info {};
  if (stat(file.c_str(), &info) != 0) {
    const int error = errno;
    return {.outcome = error == ENOENT || error == ENOTDIR ? SocketSearch::Outcome::kNoFile
                                                           : SocketSearch::Outcome::kUnreadable,
            .sockets = {},
            .trouble = fmt::format("{}: {}", file, ErrnoText(error))};
  }
  const std::optional<int> descriptor = InheritedDescriptor(file);
  std::variant<std::string, UnusableFile> text =
      descriptor ? ReadInheritedConfig(file, *descriptor, FileTrust::kAny) : ReadConfigFile(file, FileTrust::kAny);
  if (const auto* unusable = std::get_if<UnusableFile>(&text)) {
    return {.outcome = SocketSearch::Outcome::kUnreadable,
            .sockets = {},
            .trouble = fmt::format("{}: {}", file, unusable->message)};
  }
  return SearchText(ConfigSource(file, std::get<std::string>(std::move(text)), 0), environment);
}

SocketSearch SearchSocket(const std::string& file) { return SearchSocket(file, FromProcessEnvironment); }

}  // namespace supervisor
