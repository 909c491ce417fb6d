#include "daemon/logs/log_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/careful_path.h"
#include "common/errno_status.h"
#include "common/rotated_files.h"
#include "daemon/logs/append_point.h"

namespace supervisor {
namespace {

constexpr mode_t kFileMode = 0640;
constexpr int kOpenFlags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

bool IsOurs(uid_t owner) { return owner == 0 || owner == geteuid(); }

}  // namespace

LogFile::LogFile(const std::string& path) : path_(path) {
  const size_t slash = path.rfind('/');
  directory_ = slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
  base_ = slash == std::string::npos ? path : path.substr(slash + 1);
}

absl::Status LogFile::Refused(std::string_view why) const {
  return absl::FailedPreconditionError(fmt::format("log file {}: {}", path_, why));
}

absl::StatusOr<UniqueFd> LogFile::OpenDirectory() const { return OpenDirectory(IfMissing::kFail); }

absl::StatusOr<UniqueFd> LogFile::OpenDirectory(IfMissing if_missing) const {
  absl::StatusOr<UniqueFd> directory = OpenDirectoryCarefully(directory_, if_missing);
  if (!directory.ok()) {
    return absl::Status(directory.status().code(),
                        fmt::format("log directory {}", std::string(directory.status().message())));
  }
  // What was judged once stays judged: only root can have given its directory to somebody since.
  const auto facts = FactsOf(directory->get());
  if (facts && facts->id == directory_id_) {
    return directory;
  }
  if (absl::Status owned = CheckDirectoryOwner(directory->get(), "log directory", directory_, service_uid_);
      !owned.ok()) {
    return owned;
  }
  return directory;
}

absl::Status LogFile::Open() {
  Close();
  absl::StatusOr<UniqueFd> directory = OpenDirectory(IfMissing::kMake);
  if (!directory.ok()) {
    return directory.status();
  }
  const auto directory_facts = FactsOf(directory->get());
  if (directory_facts && !(directory_facts->id == directory_id_)) {
    ledger_.Load(directory->get(), base_);
  }
  UniqueFd file(openat(directory->get(), base_.c_str(), kOpenFlags));
  if (!file && errno == ENOENT) {
    file.Reset(openat(directory->get(), base_.c_str(), kOpenFlags | O_CREAT | O_EXCL, kFileMode));
    if (file) {
      GiveInheritedAccess(directory->get(), file.get());
    }
  }
  if (!file) {
    switch (errno) {
      case ELOOP:
        return Refused("is a symbolic link, which is not followed; remove it");
      case EISDIR:
        return Refused("is a directory; remove or rename it");
      default:
        return ErrnoToStatus(errno, fmt::format("log file {}", path_));
    }
  }
  if (absl::Status checked = CheckOpened(directory->get(), file.get()); !checked.ok()) {
    return checked;
  }
  file_ = std::move(file);
  if (directory_facts) {
    directory_id_ = directory_facts->id;
  }
  GiveWantedAccess();
  return absl::OkStatus();
}

void LogFile::Close() {
  RememberAccess();
  file_.Reset();
}

void LogFile::RememberAccess() {
  if (auto access = file_ ? AccessOf(file_.get()) : std::nullopt) {
    former_ = std::move(access);
  }
}

// A new file takes over what the one before it had: the one that was open, or the one that a daemon rotated away that
// was killed before it made the successor.
void LogFile::GiveInheritedAccess(int dir_fd, int fd) {
  std::optional<FileAccess> access = former_;
  if (const std::string newest = RotatedName(base_, 1); !access && ledger_.HasFile(dir_fd, newest)) {
    const UniqueFd before(openat(dir_fd, newest.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    access = before ? AccessOf(before.get()) : std::nullopt;
  }
  if (!access) {
    access = FileAccess{.uid = geteuid(), .gid = getegid(), .mode = kFileMode, .acl = {}};
    if (struct stat made{}; fstat(fd, &made) == 0) {
      access->gid = made.st_gid;  // a set-group-ID directory's
    }
  }
  const int error = GiveAccess(fd, *access);
  NoteAccess(error, "the owner, group and mode of the file before it");
}

void LogFile::SetAccess(const WantedAccess& wanted) {
  wanted_ = wanted;
  if (file_) {
    GiveWantedAccess();
  }
}

void LogFile::GiveWantedAccess() {
  const std::optional<FileAccess> has = wanted_ == WantedAccess{} ? std::nullopt : AccessOf(file_.get());
  if (!has) {
    return;
  }
  FileAccess access = *has;
  access.uid = wanted_.uid == static_cast<uid_t>(-1) ? has->uid : wanted_.uid;
  access.gid = wanted_.gid == static_cast<gid_t>(-1) ? has->gid : wanted_.gid;
  if (wanted_.mode) {
    access.mode = *wanted_.mode;
    access.acl.clear();  // with an access control list the mode's group bits are its mask: chmod(2) sets that
  }
  if (access.uid == has->uid && access.gid == has->gid && access.mode == has->mode) {
    access_error_.clear();
    return;
  }
  const int error = GiveAccess(file_.get(), access);
  NoteAccess(error, "the owner, group and mode that \"logs\" gives it");
}

void LogFile::NoteAccess(int error, std::string_view what) {
  access_error_.clear();
  if (error != 0) {
    access_error_ =
        std::string(ErrnoToStatus(error, fmt::format("log file {}: can't be given {}", path_, what)).message());
  }
}

absl::Status LogFile::CheckOpened(int dir_fd, int fd) const {
  struct stat directory {};
  struct stat file {};
  if (fstat(dir_fd, &directory) != 0 || fstat(fd, &file) != 0) {
    return ErrnoToStatus(errno, fmt::format("log file {}", path_));
  }
  if (!S_ISREG(file.st_mode)) {
    return Refused("is not a regular file; remove or rename it");
  }
  // Where others may make names, a file could be another's by a hard link, or a stranger's who then reads the log.
  const bool world_writable = (directory.st_mode & S_IWOTH) != 0;
  if (world_writable || !IsOurs(directory.st_uid)) {
    const bool owner_fits =
        file.st_uid == geteuid() || file.st_uid == wanted_.uid || (!world_writable && file.st_uid == directory.st_uid);
    if (!owner_fits) {
      return Refused(fmt::format("belongs to user {}, in a directory where others may write; remove it", file.st_uid));
    }
    if (file.st_nlink > 1) {
      return Refused("has another name (a hard link), in a directory where others may write; remove it");
    }
  }
  return absl::OkStatus();
}

bool LogFile::InPlace() const {
  const auto directory = OpenDirectory();
  const auto named = directory.ok() ? FactsAt(directory->get(), base_) : std::nullopt;
  const auto open = Facts();
  return named && open && named->id == open->id;
}

bool LogFile::AtLineStart(uint64_t size) const {
  char last = '\n';
  return size == 0 || pread(file_.get(), &last, 1, static_cast<off_t>(size - 1)) != 1 || last == '\n';
}

bool LogFile::HasRoom(uint64_t size) const {
  constexpr off_t kProbeBytes = 4096;
  return fallocate(file_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(size), kProbeBytes) == 0 ||
         errno == EOPNOTSUPP || errno == ENOSYS;
}

LogFile::Moved LogFile::SpliceFrom(int pipe, uint64_t bytes, uint64_t at) const {
  const AppendPoint end(file_.get(), at);
  auto offset = static_cast<off64_t>(at);
  ssize_t moved = 0;
  do {
    moved = splice(pipe, nullptr, file_.get(), &offset, bytes, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  } while (moved < 0 && errno == EINTR);
  if (moved < 0) {
    return {0, errno == EAGAIN ? 0 : errno};
  }
  const auto count = static_cast<uint64_t>(moved);
  if (count > 0 && end.WasCutSince()) {
    end.CloseHole(count);
  }
  return {count, 0};
}

LogFile::Moved LogFile::Write(std::string_view bytes, uint64_t at) const {
  uint64_t written = 0;
  while (written < bytes.size()) {
    const iovec rest{.iov_base = const_cast<char*>(bytes.data() + written), .iov_len = bytes.size() - written};
    const auto offset = static_cast<off_t>(at + written);
    ssize_t n = pwritev2(file_.get(), &rest, 1, offset, RWF_APPEND);
    if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
      n = pwritev(file_.get(), &rest, 1, offset);
    }
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return {written, written > 0 ? 0 : errno};
    }
    written += static_cast<uint64_t>(n);
  }
  return {written, 0};
}

absl::Status LogFile::Rotate(int max_files) {
  absl::StatusOr<UniqueFd> directory = OpenDirectory();
  if (!directory.ok()) {
    return directory.status();
  }
  // Somebody else renamed it already, or put another file in its place: then that one is not ours to rename.
  const auto named = FactsAt(directory->get(), base_);
  const auto open = Facts();
  if (named && open && named->id == open->id) {
    if (absl::Status shifted = ShiftRotatedFiles(directory->get(), directory_, base_, max_files, ledger_);
        !shifted.ok()) {
      return shifted;
    }
  }
  Close();
  return absl::OkStatus();
}

}  // namespace supervisor
