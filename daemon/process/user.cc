#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>

#include <charconv>
#include <cstring>
#include <type_traits>

#include "common/errno_status.h"
#include "daemon/process/spawn.h"

namespace supervisor {
namespace {

constexpr size_t kFirstBuffer = 4096;
constexpr size_t kLargestBuffer = 1u << 20;

template <typename Number>
std::optional<Number> AsNumber(const std::string& text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  return !text.empty() && error == std::errc() && rest == end ? std::optional<Number>(value) : std::nullopt;
}

// Calls one of the get*_r functions with a buffer that grows until the entry fits.
template <typename Entry, typename Call>
absl::StatusOr<Entry> LookUp(const std::string& what, std::string& buffer, Call call) {
  for (buffer.resize(kFirstBuffer); buffer.size() <= kLargestBuffer; buffer.resize(buffer.size() * 2)) {
    Entry entry{};
    Entry* found = nullptr;
    const int error = call(&entry, buffer.data(), buffer.size(), &found);
    if (error == ERANGE) {
      continue;
    }
    if (found != nullptr) {
      return entry;
    }
    if (error == 0 || error == ENOENT || error == ESRCH) {
      return absl::NotFoundError(fmt::format("{}: no such {}", what, std::is_same_v<Entry, passwd> ? "user" : "group"));
    }
    return ErrnoToStatus(error, what);
  }
  return ErrnoToStatus(ERANGE, what);
}

absl::StatusOr<std::vector<gid_t>> SupplementaryGroups(const std::string& user, gid_t primary) {
  int count = 64;
  for (;;) {
    std::vector<gid_t> groups(static_cast<size_t>(count));
    if (getgrouplist(user.c_str(), primary, groups.data(), &count) >= 0) {
      groups.resize(static_cast<size_t>(count));
      return groups;
    }
    if (static_cast<size_t>(count) <= groups.size()) {
      return absl::InternalError(fmt::format("user {}: cannot list its groups", user));
    }
  }
}

}  // namespace

absl::StatusOr<SpawnRequest::Credentials> LookUpCredentials(const std::string& user, const std::string& group) {
  SpawnRequest::Credentials credentials{
      .uid = geteuid(), .gid = getegid(), .groups = {}, .user = {}, .home = {}, .shell = {}};
  std::string buffer;
  if (!user.empty()) {
    const std::string what = fmt::format("user {}", user);
    const std::optional<uid_t> uid = AsNumber<uid_t>(user);
    const absl::StatusOr<passwd> entry =
        LookUp<passwd>(what, buffer, [&](passwd* out, char* data, size_t size, passwd** found) {
          return uid ? getpwuid_r(*uid, out, data, size, found) : getpwnam_r(user.c_str(), out, data, size, found);
        });
    if (entry.ok()) {
      credentials.uid = entry->pw_uid;
      credentials.gid = entry->pw_gid;
      credentials.user = entry->pw_name;
      credentials.home = entry->pw_dir;
      credentials.shell = entry->pw_shell;
      absl::StatusOr<std::vector<gid_t>> groups = SupplementaryGroups(credentials.user, entry->pw_gid);
      if (!groups.ok()) {
        return groups.status();
      }
      credentials.groups = *std::move(groups);
    } else if (uid) {
      credentials.uid = *uid;  // a number without an entry is still a uid, as it is for systemd and Docker
      credentials.gid = static_cast<gid_t>(*uid);
      credentials.user = user;
    } else {
      return entry.status();
    }
  }
  if (!group.empty()) {
    const std::optional<gid_t> gid = AsNumber<gid_t>(group);
    const absl::StatusOr<::group> entry = LookUp<::group>(
        fmt::format("group {}", group), buffer, [&](::group* out, char* data, size_t size, ::group** found) {
          return gid ? getgrgid_r(*gid, out, data, size, found) : getgrnam_r(group.c_str(), out, data, size, found);
        });
    if (!entry.ok() && !gid) {
      return entry.status();
    }
    credentials.gid = entry.ok() ? entry->gr_gid : *gid;
  }
  // To the kernel these say "as it is" (setresuid(2)): the daemon's own, which may be root.
  if (credentials.uid == static_cast<uid_t>(-1) || credentials.gid == static_cast<gid_t>(-1)) {
    return absl::InvalidArgumentError(fmt::format("user {}, group {}: nobody can have that number", user, group));
  }
  return credentials;
}

}  // namespace supervisor
