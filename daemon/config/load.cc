#include "daemon/config/load.h"

#include <fmt/format.h>
#include <re2/re2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <utility>
#include <variant>

#include "daemon/config/config_file.h"
#include "daemon/config/config_source.h"
#include "daemon/config/include.h"
#include "daemon/config/json_parser.h"
#include "daemon/config/message_text.h"
#include "daemon/config/object_reader.h"
#include "daemon/config/read_global.h"
#include "daemon/config/read_service.h"
#include "daemon/config/references.h"

namespace supervisor {
namespace {

constexpr ObjectReader::Choice<std::string_view> kVersions[] = {{"1.0", "1.0"}};
constexpr size_t kMostServices = 10'000;
constexpr size_t kMostTextInAll = size_t{64} << 20;

std::optional<std::string> FromProcessEnvironment(const std::string& name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the daemon never changes its environment
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

// Nothing where the working directory is gone and the name is relative.
std::optional<std::string> AbsoluteFile(const std::string& file) {
  if (file.starts_with('/')) {
    return file;
  }
  const std::unique_ptr<char, decltype(&std::free)> directory(getcwd(nullptr, 0), &std::free);
  if (file.empty() || directory == nullptr) {
    return std::nullopt;
  }
  return AbsolutePath(directory.get(), file);
}

// A file's text with its document, whose strings and offsets refer to it.
struct ReadFile {
  std::unique_ptr<ConfigSource> source;
  JsonValue root;
};

// One load: reads the files one after another and keeps what later checks need.
class Loader {
 public:
  Loader(const EnvironmentLookup& environment, const LoadOptions& options)
      : environment_(environment), options_(options) {}

  LoadedConfig Load(const std::string& file);
  LoadedConfig Load(std::vector<ConfigText> texts);

 private:
  std::optional<ReadFile> Parse(const std::string& path, std::string text, size_t order);
  LoadedConfig Judge();
  std::optional<ReadFile> Read(const std::string& path, size_t order, const std::string& origin);
  void ReadMain(const ReadFile& file);
  void ReadIncluded(const ReadFile& file);
  void ReadServices(const ReadFile& file, const JsonValue* services, size_t offset);
  void AddService(const ReadContext& context, const JsonMember& member);
  ReadContext Context(const ConfigSource& source, InstanceRule rule) {
    return {.source = source, .environment = environment_, .errors = errors_, .instance_rule = rule};
  }

  std::string DirectoryFor(const std::string& path, size_t order) const;
  void CheckIsNoLog(const ConfigSource& source);

  const EnvironmentLookup& environment_;
  const LoadOptions& options_;
  ErrorList errors_;
  Config config_;
  std::vector<PlacedText> include_;
  std::vector<std::unique_ptr<ConfigSource>> sources_;
  ServicePlaces places_;
  size_t text_in_all_ = 0;
  bool is_complete_ = true;  // every file could be read, so a service that is not there does not exist
};

// What comes by a descriptor has no directory of its own.
std::string Loader::DirectoryFor(const std::string& path, size_t order) const {
  return order == 0 && InheritedDescriptor(path) ? options_.directory : std::string();
}

std::optional<ReadFile> Loader::Read(const std::string& path, size_t order, const std::string& origin) {
  if (order == 0 && options_.main_text) {
    return Parse(path, *options_.main_text, order);
  }
  const std::optional<int> descriptor = order == 0 ? InheritedDescriptor(path) : std::nullopt;
  std::variant<std::string, UnusableFile> text =
      descriptor ? ReadInheritedConfig(path, *descriptor, options_.trust) : ReadConfigFile(path, options_.trust);
  if (const auto* unusable = std::get_if<UnusableFile>(&text)) {
    errors_.AddFile(path, order, unusable->message + origin);
    return std::nullopt;
  }
  return Parse(path, std::get<std::string>(std::move(text)), order);
}

std::optional<ReadFile> Loader::Parse(const std::string& path, std::string text, size_t order) {
  text_in_all_ += text.size();
  if (text_in_all_ > kMostTextInAll) {
    errors_.AddFile(
        path, order,
        fmt::format("the files of this configuration are too long (at most {} bytes in all)", kMostTextInAll));
    return std::nullopt;
  }
  auto source = std::make_unique<ConfigSource>(path, std::move(text), order, DirectoryFor(path, order));
  ParsedJson parsed = ParseJson(source->text());
  for (JsonProblem& problem : parsed.problems) {
    errors_.Add(*source, problem.offset, std::move(problem.path), std::move(problem.message));
  }
  if (!parsed.root) {
    return std::nullopt;
  }
  return ReadFile{std::move(source), *std::move(parsed.root)};
}

void Loader::AddService(const ReadContext& context, const JsonMember& member) {
  const auto existing = places_.find(member.key);
  if (existing != places_.end() && existing->second.source != &context.source) {
    errors_.Add(context.source, member.key_offset, KeyPath("services", member.key),
                fmt::format("this service is defined twice (it already stands at {})",
                            existing->second.source->PlaceName(existing->second.offset)));
  }
  ReadServiceResult result = ReadService(context, member, config_.global);
  ServicePlace place{.source = &context.source,
                     .path = KeyPath("services", member.key),
                     .offset = member.key_offset,
                     .depends_on = std::move(result.depends_on)};
  if (places_.emplace(member.key, std::move(place)).second) {
    config_.services.emplace(member.key, std::move(result.service));
  }
}

void Loader::ReadServices(const ReadFile& file, const JsonValue* services, size_t offset) {
  const ReadContext context = Context(*file.source, InstanceRule::kKeep);
  const ObjectReader reader(context, services, "services", offset);
  if (!reader.present()) {
    return;
  }
  for (const JsonMember& member : services->children) {
    if (places_.size() >= kMostServices) {
      errors_.Add(
          *file.source, member.key_offset, KeyPath("services", member.key),
          fmt::format("more than {} services (expected fewer; one service can have many instances)", kMostServices));
      return;
    }
    AddService(context, member);
  }
}

void Loader::ReadMain(const ReadFile& file) {
  const ReadContext context = Context(*file.source, InstanceRule::kRefuse);
  ObjectReader reader(context, &file.root, "", 0);
  if (!reader.present()) {
    is_complete_ = false;
    return;
  }
  reader.Enum("version", kVersions, &config_.version);
  ReadGlobalResult global = ReadGlobal(reader.Object("global"));
  config_.global = std::move(global.global);
  include_ = std::move(global.include);
  const JsonMember* services = reader.Take("services");
  config_.notifications = ReadNotifications(reader.Object("notifications"));
  config_.monitoring = ReadMonitoring(reader.Object("monitoring"));
  reader.Finish({{"service", "services"},
                 {"programs", "services"},
                 {"alerts", "monitoring.alerts"},
                 {"include", "global.include"},
                 {"socket", "global.socket"},
                 {"log_level", "global.log_level"},
                 {"log_directory", "global.log_directory"}});
  if (services != nullptr) {
    ReadServices(file, &services->value, services->key_offset);
  }
}

void Loader::ReadIncluded(const ReadFile& file) {
  const ReadContext context = Context(*file.source, InstanceRule::kRefuse);
  ObjectReader reader(context, &file.root, "", 0);
  if (!reader.present()) {
    is_complete_ = false;
    return;
  }
  for (const JsonMember& member : file.root.children) {
    if (member.key != "services") {
      errors_.Add(*file.source, member.key_offset, KeyPath("", member.key),
                  fmt::format("an included file holds \"services\" alone (move this key to {})", config_.file));
    }
  }
  if (const JsonMember* services = reader.Take("services")) {
    ReadServices(file, &services->value, services->key_offset);
  } else {
    reader.Report("services", "is missing (expected {\"services\": {...}})");
  }
}

LoadedConfig Loader::Load(const std::string& file) {
  const std::optional<std::string> path = AbsoluteFile(file);
  if (!path) {
    errors_.AddFile(file, 0,
                    "cannot be found: the name is empty, or relative to a directory that is gone (expected an absolute "
                    "path after -c)");
    return {.config = std::nullopt, .errors = errors_.Take(), .texts = {}};
  }
  config_.file = *path;
  std::optional<ReadFile> main = Read(*path, 0, "");
  if (!main) {
    return {.config = std::nullopt, .errors = errors_.Take(), .texts = {}};
  }
  ReadMain(*main);
  sources_.push_back(std::move(main->source));
  size_t order = 0;
  const ConfigSource& main_source = *sources_.front();
  for (const IncludedFile& included : FindIncludedFiles(include_, main_source, errors_)) {
    const std::string origin = fmt::format(" (included by {})", main_source.PlaceName(included.origin.offset));
    std::optional<ReadFile> read = Read(included.path, ++order, origin);
    if (!read) {
      is_complete_ = false;
      continue;
    }
    ReadIncluded(*read);
    sources_.push_back(std::move(read->source));
  }
  return Judge();
}

LoadedConfig Loader::Load(std::vector<ConfigText> texts) {
  for (size_t order = 0; order < texts.size(); ++order) {
    std::optional<ReadFile> read = Parse(texts[order].path, std::move(texts[order].text), order);
    if (!read) {
      is_complete_ = false;
      continue;
    }
    if (order == 0) {
      config_.file = texts[order].path;
      ReadMain(*read);
    } else {
      ReadIncluded(*read);
    }
    sources_.push_back(std::move(read->source));
  }
  return Judge();
}

// A service decides what stands in its log: a log must not say what runs, however it came to be named.
void Loader::CheckIsNoLog(const ConfigSource& source) {
  static const re2::RE2 log_name(R"(.*\.log(\.[0-9]+)?(\.gz)?)");
  struct stat own = {};
  struct stat logs = {};
  const std::string name = source.file().substr(source.file().rfind('/') + 1);
  if (re2::RE2::FullMatch(name, log_name) && stat(DirectoryOf(source.file()).c_str(), &own) == 0 &&
      stat(config_.global.log_directory.c_str(), &logs) == 0 && own.st_dev == logs.st_dev &&
      own.st_ino == logs.st_ino) {
    errors_.AddFile(
        source.file(), source.order(),
        "has a log's name, in the directory where services' output goes (move it, and give it another name)");
  }
}

// What can be said only when everything was read.
LoadedConfig Loader::Judge() {
  if (is_complete_) {
    CheckDanglingDependencies(places_, errors_);
  }
  CheckDependencyCycles(places_, errors_);
  CheckFileCollisions(config_, places_, errors_);
  for (const std::unique_ptr<ConfigSource>& source : sources_) {
    CheckIsNoLog(*source);
  }
  if (!errors_.empty()) {
    return {.config = std::nullopt, .errors = errors_.Take(), .texts = {}};
  }
  LoadedConfig loaded{.config = std::move(config_), .errors = {}, .texts = {}};
  for (const std::unique_ptr<ConfigSource>& source : sources_) {
    loaded.texts.push_back({source->file(), source->text()});
  }
  return loaded;
}

}  // namespace

std::string ConfigError::ToString() const {
  const std::string place = line > 0 ? fmt::format("{}:{}:{}", file, line, column) : file;
  return path.empty() ? fmt::format("{}: {}", place, message) : fmt::format("{}: {}: {}", place, path, message);
}

LoadedConfig LoadConfig(const std::string& file, const EnvironmentLookup& environment, const LoadOptions& options) {
  return Loader(environment, options).Load(file);
}

LoadedConfig LoadConfig(std::vector<ConfigText> texts, const EnvironmentLookup& environment,
                        const LoadOptions& options) {
  return Loader(environment, options).Load(std::move(texts));
}

LoadedConfig LoadConfig(std::vector<ConfigText> texts, const LoadOptions& options) {
  return LoadConfig(std::move(texts), FromProcessEnvironment, options);
}

LoadedConfig LoadConfig(const std::string& file, const LoadOptions& options) {
  return LoadConfig(file, FromProcessEnvironment, options);
}

std::optional<std::string> LoadSocketPath(const std::string& file, const LoadOptions& options) {
  const std::optional<std::string> path = AbsoluteFile(file);
  if (!path) {
    return std::nullopt;
  }
  const std::optional<int> descriptor = InheritedDescriptor(*path);
  std::variant<std::string, UnusableFile> text =
      descriptor ? ReadInheritedConfig(*path, *descriptor, options.trust) : ReadConfigFile(*path, options.trust);
  if (std::holds_alternative<UnusableFile>(text)) {
    return std::nullopt;
  }
  const ConfigSource source(*path, std::get<std::string>(std::move(text)), 0, descriptor ? options.directory : "");
  const ParsedJson parsed = ParseJson(source.text());
  const JsonMember* global = parsed.root ? parsed.root->Find("global") : nullptr;
  const JsonMember* socket = global == nullptr ? nullptr : global->value.Find("socket");
  if (socket == nullptr || socket->value.kind != JsonKind::kString) {
    return std::nullopt;
  }
  const Interpolated result = Interpolate(socket->value.text, FromProcessEnvironment, InstanceRule::kRefuse);
  if (!result.problems.empty() || result.text.empty()) {
    return std::nullopt;
  }
  return AbsolutePath(source.directory(), result.text);
}

}  // namespace supervisor
