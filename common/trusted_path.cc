#include "common/trusted_path.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/magic.h>
#include <pwd.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <utility>

#include "common/atomic_file.h"
#include "common/errno_status.h"
#include "common/shell_word.h"

namespace supervisor {
namespace {

constexpr int kMostLinks = 40;  // as many as the kernel follows: path_resolution(7)
constexpr int kMostAttempts = 10;
constexpr mode_t kMakeNothing = 0;
constexpr int kAlways = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;  // a FIFO that nobody writes must not hold us up

bool IsTrustedOwner(uid_t uid, const TrustRule& rule) {
  return uid == 0 || std::ranges::find(rule.uids, uid) != rule.uids.end();
}

bool IsTrustedGroup(gid_t gid, const TrustRule& rule) {
  return gid == 0 || std::ranges::find(rule.gids, gid) != rule.gids.end();
}

bool OthersMayWrite(const PathNode& node, const TrustRule& rule) {
  const mode_t mode = node.info.st_mode;
  return (mode & S_IWOTH) != 0 || ((mode & S_IWGRP) != 0 && (node.has_acl || !IsTrustedGroup(node.info.st_gid, rule)));
}

// What is wrong with a component: why, and the command that mends it.
struct Reason {
  std::string why;
  std::string who;  // "who" or "which": the person or the group that could do harm
  std::string command;
};

Reason OwnerReason(const std::string& path, const PathNode& node) {
  const std::string word = ShellWord(path);
  std::string command = S_ISLNK(node.info.st_mode) ? fmt::format("chown -h root:root {}", word)
                                                   : fmt::format("chown root:root {} && chmod go-w {}", word, word);
  if (geteuid() != 0) {
    command = fmt::format("chown -h {} {}, as root", geteuid(), word);
  }
  return {fmt::format("belongs to uid {}", node.info.st_uid), "who", std::move(command)};
}

Reason WriterReason(const std::string& path, const PathNode& node) {
  const std::string mode = fmt::format("{:04o}", node.info.st_mode & 07777U);
  const std::string word = ShellWord(path);
  if ((node.info.st_mode & S_IWOTH) != 0) {
    return {fmt::format("is writable by everyone (mode {})", mode), "who", fmt::format("chmod go-w {}", word)};
  }
  if (node.has_acl) {
    return {fmt::format("is writable by those whom its access control list names (mode {})", mode), "who",
            fmt::format("setfacl -b {} && chmod go-w {}", word, word)};
  }
  return {fmt::format("is writable by the group {} (mode {})", node.info.st_gid, mode), "which",
          fmt::format("chmod go-w {}", word)};
}

std::optional<Reason> FindReason(const std::string& path, const PathNode& node, const TrustRule& rule) {
  const std::string word = ShellWord(path);
  if (node.is_user_mount && node.is_in_sticky) {
    return Reason{"is a FUSE file system, which any user may have mounted there", "who",
                  fmt::format("umount {}", word)};
  }
  const mode_t type = node.info.st_mode & S_IFMT;
  if (node.is_read_only || (type != S_IFDIR && type != S_IFLNK && type != S_IFREG)) {
    return std::nullopt;  // others can't be opened: see WrongType
  }
  if (!IsTrustedOwner(node.info.st_uid, rule)) {
    return OwnerReason(path, node);
  }
  const bool is_directory = S_ISDIR(node.info.st_mode);
  if (!is_directory && node.is_in_sticky && node.info.st_nlink > 1) {
    return Reason{fmt::format("has {} names (hard links), and stands where everyone may make one", node.info.st_nlink),
                  "who", fmt::format("cp -p {} {} && mv {} {}", word, word + ".new", word + ".new", word)};
  }
  const bool only_owner_renames = is_directory && (node.info.st_mode & S_ISVTX) != 0;
  if (!S_ISLNK(node.info.st_mode) && !only_owner_renames && OthersMayWrite(node, rule)) {
    return WriterReason(path, node);
  }
  return std::nullopt;
}

// Looks at one component; `parent` is the directory in which it was found, nullptr where that says nothing.
std::optional<PathNode> LookAt(int fd, const PathNode* parent, const TrustRule& rule) {
  PathNode node;
  struct statfs system {};
  if (fstat(fd, &node.info) != 0 || fstatfs(fd, &system) != 0) {
    return std::nullopt;
  }
  node.is_read_only = (static_cast<unsigned long>(system.f_flags) & ST_RDONLY) != 0;
  if (parent != nullptr) {
    node.is_in_sticky = !parent->is_read_only && OthersMayWrite(*parent, rule);
    node.is_user_mount = system.f_type == FUSE_SUPER_MAGIC && node.info.st_dev != parent->info.st_dev;
  }
  if ((node.info.st_mode & S_IWGRP) != 0 && !S_ISLNK(node.info.st_mode)) {
    // By /proc, for fgetxattr(2) takes no O_PATH descriptor. A list that can't be asked for is taken to be there.
    const std::string name = fmt::format("/proc/self/fd/{}", fd);
    node.has_acl = getxattr(name.c_str(), "system.posix_acl_access", nullptr, 0) >= 0 ||
                   (errno != ENODATA && errno != EOPNOTSUPP && errno != ENOENT);
  }
  return node;
}

std::vector<std::string> Components(const std::string& path) {
  std::vector<std::string> components;
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    if (end > begin) {
      components.push_back(path.substr(begin, end - begin));
    }
    begin = end + 1;
  }
  if (path.ends_with('/')) {
    components.emplace_back(".");  // what a slash follows is a directory
  }
  return components;
}

// One walk along a path, see the header. One thread.
class Walk {
 public:
  // `make_mode`: missing directories are made with it; kMakeNothing: they are not.
  Walk(const std::string& path, const TrustRule& rule, mode_t make_mode)
      : asked_(path), rule_(rule), make_mode_(make_mode) {}

  std::optional<PathProblem> Run();

  // After Run: where the walk ended. A file, by its directory's descriptor and its name, or a directory.
  bool ended_at_file() const { return !file_.empty(); }
  int directory() const { return way_.back().fd.get(); }
  const std::string& file() const { return file_; }
  const struct stat& info() const { return last_.info; }
  UniqueFd TakeDirectory() { return std::move(way_.back().fd); }

 private:
  struct Step {
    UniqueFd fd;
    std::string name;
    PathNode node;
  };

  std::optional<PathProblem> Enter(const std::string& name);
  std::optional<PathProblem> Follow(int link);
  std::optional<PathProblem> StartAtRoot();
  int OpenComponent(const std::string& name) const;
  std::optional<PathProblem> Look(int fd, const std::string& path, PathNode& node) const;
  std::string PathOf(const std::string& name) const;
  void Push(const std::string& path);

  const std::string& asked_;
  const TrustRule& rule_;
  const mode_t make_mode_;
  std::vector<Step> way_;          // the directories from "/" to here
  std::vector<std::string> rest_;  // still to go, the next one last
  std::string file_;
  PathNode last_;
  int links_ = 0;
};

PathProblem ErrnoProblem(int error) {
  return {.kind = PathProblem::Kind::kErrno, .error = error, .what = "cannot be opened: " + ErrnoText(error)};
}

PathProblem DistrustProblem(std::string what) {
  return {.kind = PathProblem::Kind::kDistrusted, .error = 0, .what = std::move(what)};
}

std::string Walk::PathOf(const std::string& name) const {
  std::string path;
  for (size_t i = 1; i < way_.size(); ++i) {
    path += "/" + way_[i].name;
  }
  return name.empty() && !path.empty() ? path : path + "/" + name;
}

void Walk::Push(const std::string& path) {
  const std::vector<std::string> components = Components(path);
  rest_.insert(rest_.end(), components.rbegin(), components.rend());
}

std::optional<PathProblem> Walk::Look(int fd, const std::string& path, PathNode& node) const {
  std::optional<PathNode> looked = LookAt(fd, way_.empty() ? nullptr : &way_.back().node, rule_);
  if (!looked) {
    return ErrnoProblem(errno);
  }
  node = *looked;
  if (std::optional<std::string> distrust = Distrust(asked_, path, node, rule_)) {
    return DistrustProblem(*std::move(distrust));
  }
  return std::nullopt;
}

// O_DIRECTORY first: it lets an automount happen, which O_PATH alone does not.
int Walk::OpenComponent(const std::string& name) const {
  const int fd = openat(directory(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  return fd >= 0 || errno != ENOTDIR ? fd : openat(directory(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

std::optional<PathProblem> Walk::StartAtRoot() {
  way_.clear();
  Step root{.fd = UniqueFd(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)), .name = "", .node = {}};
  if (!root.fd) {
    return ErrnoProblem(errno);
  }
  std::optional<PathProblem> problem = Look(root.fd.get(), "/", root.node);
  last_ = root.node;
  way_.push_back(std::move(root));
  return problem;
}

std::optional<PathProblem> Walk::Follow(int link) {
  if (++links_ > kMostLinks) {
    return ErrnoProblem(ELOOP);
  }
  std::array<char, PATH_MAX> target{};
  const ssize_t size = readlinkat(link, "", target.data(), target.size());
  if (size <= 0 || static_cast<size_t>(size) >= target.size()) {
    return ErrnoProblem(size < 0 ? errno : ENOENT);
  }
  Push(std::string(target.data(), static_cast<size_t>(size)));
  return target[0] == '/' ? StartAtRoot() : std::nullopt;
}

std::optional<PathProblem> Walk::Enter(const std::string& name) {
  UniqueFd fd(OpenComponent(name));
  if (!fd && errno == ENOENT && make_mode_ != kMakeNothing) {
    if (mkdirat(directory(), name.c_str(), make_mode_) != 0 && errno != EEXIST) {
      PathProblem problem = ErrnoProblem(errno);
      problem.what = fmt::format("cannot be made: {}: {}", PathOf(name), ErrnoText(problem.error));
      return problem;
    }
    fd.Reset(OpenComponent(name));
  }
  if (!fd) {
    return ErrnoProblem(errno);
  }
  PathNode node;
  if (std::optional<PathProblem> problem = Look(fd.get(), PathOf(name), node)) {
    return problem;
  }
  last_ = node;
  if (S_ISLNK(node.info.st_mode)) {
    return Follow(fd.get());
  }
  if (S_ISDIR(node.info.st_mode)) {
    way_.push_back({.fd = std::move(fd), .name = name, .node = node});
    return std::nullopt;
  }
  if (!rest_.empty()) {
    return ErrnoProblem(ENOTDIR);
  }
  file_ = name;
  return std::nullopt;
}

std::optional<PathProblem> Walk::Run() {
  if (asked_.empty()) {
    return ErrnoProblem(ENOENT);
  }
  Push(asked_);
  if (!asked_.starts_with('/')) {
    std::array<char, PATH_MAX> here{};
    if (getcwd(here.data(), here.size()) == nullptr) {
      return ErrnoProblem(errno);
    }
    Push(here.data());
  }
  if (std::optional<PathProblem> problem = StartAtRoot()) {
    return problem;
  }
  while (!rest_.empty()) {
    const std::string name = std::move(rest_.back());
    rest_.pop_back();
    if (name == "..") {
      if (way_.size() > 1) {
        way_.pop_back();
      }
      last_ = way_.back().node;
    } else if (name != ".") {
      if (std::optional<PathProblem> problem = Enter(name)) {
        return problem;
      }
    }
  }
  return std::nullopt;
}

std::optional<PathProblem> WrongType(const struct stat& info) {
  if (S_ISDIR(info.st_mode)) {
    return PathProblem{
        .kind = PathProblem::Kind::kDirectory, .error = EISDIR, .what = "is a directory (expected a file)"};
  }
  if (!S_ISREG(info.st_mode)) {
    return PathProblem{.kind = PathProblem::Kind::kNotRegular,
                       .error = EINVAL,
                       .what = "is no regular file (expected one, not a device, pipe or socket)"};
  }
  return std::nullopt;
}

std::variant<UniqueFd, PathProblem> OpenAnyFile(const std::string& path, int flags) {
  UniqueFd fd(open(path.c_str(), flags | kAlways, 0600));  // style-ok(cloexec): kAlways holds it
  struct stat info = {};
  if (!fd || fstat(fd.get(), &info) != 0) {
    return ErrnoProblem(errno);
  }
  if (std::optional<PathProblem> wrong = WrongType(info)) {
    return *std::move(wrong);
  }
  return fd;
}

absl::Status ToStatus(const std::string& path, const PathProblem& problem) {
  const absl::StatusCode code = problem.kind == PathProblem::Kind::kErrno ? ErrnoToStatus(problem.error, path).code()
                                                                          : absl::StatusCode::kFailedPrecondition;
  return {code, fmt::format("{}: {}", path,
                            problem.kind == PathProblem::Kind::kErrno && problem.what.starts_with("cannot be opened: ")
                                ? ErrnoText(problem.error)
                                : problem.what)};
}

absl::StatusOr<UniqueFd> OpenDirectory(const std::string& path, mode_t make_mode, const TrustRule& rule) {
  if (rule.level == FileTrust::kAny) {
    if (make_mode != kMakeNothing) {
      if (absl::Status status = MakeDirectories(path, make_mode); !status.ok()) {
        return status;
      }
    }
    UniqueFd fd(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    return fd ? absl::StatusOr<UniqueFd>(std::move(fd)) : ErrnoToStatus(errno, path);
  }
  Walk walk(path, rule, make_mode);
  if (const std::optional<PathProblem> problem = walk.Run()) {
    return ToStatus(path, *problem);
  }
  if (walk.ended_at_file()) {
    return ErrnoToStatus(ENOTDIR, path);
  }
  return walk.TakeDirectory();
}

// The group of the user's own name that has no other member: what useradd(8) makes for each user.
std::optional<gid_t> PrivateGroup(uid_t uid) {
  std::array<char, 16384> user_text{};
  std::array<char, 16384> group_text{};
  passwd user{};
  group own{};
  passwd* found_user = nullptr;
  group* found_group = nullptr;
  if (getpwuid_r(uid, &user, user_text.data(), user_text.size(), &found_user) != 0 || found_user == nullptr ||
      getgrgid_r(user.pw_gid, &own, group_text.data(), group_text.size(), &found_group) != 0 ||
      found_group == nullptr || std::string_view(own.gr_name) != user.pw_name) {
    return std::nullopt;
  }
  for (char** member = own.gr_mem; *member != nullptr; ++member) {
    if (std::string_view(*member) != user.pw_name) {
      return std::nullopt;
    }
  }
  return own.gr_gid;
}

}  // namespace

TrustRule OwnTrust(FileTrust level) {
  TrustRule rule{.level = level, .harm = "run anything as root"};
  if (geteuid() == 0) {
    return rule;
  }
  rule.harm = fmt::format("run anything as uid {}", geteuid());
  AddTrusted(geteuid(), rule);
  return rule;
}

void AddTrusted(uid_t uid, TrustRule& rule) {
  rule.uids.push_back(uid);
  if (rule.level == FileTrust::kStrict) {
    if (const std::optional<gid_t> group = PrivateGroup(uid)) {
      rule.gids.push_back(*group);
    }
  }
}

std::variant<UniqueFd, PathProblem> WalkToFile(const std::string& path, int flags, const TrustRule& rule) {
  if (rule.level == FileTrust::kAny) {
    return OpenAnyFile(path, flags);
  }
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    Walk walk(path, rule, kMakeNothing);
    if (std::optional<PathProblem> problem = walk.Run()) {
      return *std::move(problem);
    }
    if (std::optional<PathProblem> wrong = WrongType(walk.info())) {
      return *std::move(wrong);
    }
    UniqueFd fd(openat(walk.directory(), walk.file().c_str(),  // style-ok(cloexec): kAlways holds it
                       flags | O_NOFOLLOW | kAlways));
    struct stat info = {};
    if (!fd || fstat(fd.get(), &info) != 0) {
      if (errno == ELOOP || errno == ENOENT) {
        continue;  // replaced since it was looked at
      }
      return ErrnoProblem(errno);
    }
    if (info.st_dev == walk.info().st_dev && info.st_ino == walk.info().st_ino) {
      return fd;
    }
  }
  return PathProblem{.kind = PathProblem::Kind::kErrno,
                     .error = EAGAIN,
                     .what = "is exchanged again and again while it is opened (try again)"};
}

std::optional<PathProblem> JudgeOpenFile(int fd, const std::string& path, const TrustRule& rule) {
  if (rule.level == FileTrust::kAny) {
    return std::nullopt;
  }
  const std::optional<PathNode> node = LookAt(fd, nullptr, rule);
  if (!node) {
    return ErrnoProblem(errno);
  }
  std::optional<std::string> distrust = Distrust(path, path, *node, rule);
  return distrust ? std::optional<PathProblem>(DistrustProblem(*std::move(distrust))) : std::nullopt;
}

absl::StatusOr<UniqueFd> OpenTrustedFile(const std::string& path, int flags, const TrustRule& rule) {
  std::variant<UniqueFd, PathProblem> opened = WalkToFile(path, flags, rule);
  if (const auto* problem = std::get_if<PathProblem>(&opened)) {
    return ToStatus(path, *problem);
  }
  return std::get<UniqueFd>(std::move(opened));
}

absl::StatusOr<UniqueFd> OpenTrustedDirectory(const std::string& path, const TrustRule& rule) {
  return OpenDirectory(path, kMakeNothing, rule);
}

absl::StatusOr<UniqueFd> MakeTrustedDirectory(const std::string& path, mode_t mode, const TrustRule& rule) {
  return OpenDirectory(path, mode, rule);
}

std::optional<std::string> Distrust(const std::string& asked, const std::string& path, const PathNode& node,
                                    const TrustRule& rule) {
  const std::optional<Reason> reason = FindReason(path, node, rule);
  if (!reason) {
    return std::nullopt;
  }
  const bool is_asked = path == asked;
  const bool is_link = S_ISLNK(node.info.st_mode);
  const std::string where = is_asked && is_link          ? "is a symbolic link, which "
                            : is_asked                   ? ""
                            : is_link                    ? fmt::format("lies behind the symbolic link {}, which ", path)
                            : S_ISDIR(node.info.st_mode) ? fmt::format("lies below {}, which ", path)
                                                         : fmt::format("leads to {}, which ", path);
  const std::string advice = rule.advice.empty()
                                 ? fmt::format("run: {}; or start supervisord with --trust-files any", reason->command)
                                 : rule.advice;
  return fmt::format("{}{}, {} could so {} ({})", where, reason->why, reason->who, rule.harm, advice);
}

}  // namespace supervisor
