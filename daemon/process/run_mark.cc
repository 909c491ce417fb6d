#include "daemon/process/run_mark.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "common/diag_log.h"
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

// Far beyond any memory and any number of locks, so whoever reads the limits as limits finds none.
constexpr uint64_t kFloor = uint64_t{1} << 62;
constexpr uint64_t kLineages = uint64_t{1} << 40;
constexpr size_t kLineageDigits = 10;

bool MayRaiseLimits() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  return syscall(SYS_capget, &header, data) == 0 && (data[0].effective >> CAP_SYS_RESOURCE & 1) != 0;
}

// The hard limit of a line "Max file locks    4096    8192    locks"; 0: "unlimited", or no such line.
uint64_t HardLimit(std::string_view text, std::string_view name) {
  const size_t at = text.find(name);
  if (at == std::string_view::npos) {
    return 0;
  }
  std::string_view rest = text.substr(at + name.size());
  rest = rest.substr(0, rest.find('\n'));
  const auto skip = [&rest](bool blanks) {
    while (!rest.empty() && (rest.front() == ' ') == blanks) {
      rest.remove_prefix(1);
    }
  };
  skip(true);
  skip(false);  // the soft limit
  skip(true);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  return error == std::errc() ? value : 0;
}

}  // namespace

bool GivesLineages() {
  static const bool gives = [] {
    if (MayRaiseLimits()) {
      return true;
    }
    rlimit rss{};
    rlimit locks{};
    return getrlimit(RLIMIT_RSS, &rss) == 0 && getrlimit(RLIMIT_LOCKS, &locks) == 0 &&
           std::min(rss.rlim_max, locks.rlim_max) >= kFloor + kLineages;
  }();
  return gives;
}

RunMark RunMark::Random() {
  unsigned char bytes[kSecretSize / 2];
  if (getrandom(bytes, sizeof(bytes), 0) != static_cast<ssize_t>(sizeof(bytes))) {
    LogError("no random numbers: processes that leave their session may not be found at a stop");
    return RunMark();
  }
  std::string secret;
  for (const unsigned char byte : bytes) {
    secret += fmt::format("{:02x}", byte);
  }
  return RunMark(std::move(secret));
}

uint64_t RunMark::lineage() const {
  const bool is_random =
      secret_.size() == kSecretSize && secret_.find_first_not_of("0123456789abcdef") == std::string::npos;
  return is_random ? std::max<uint64_t>(std::strtoull(secret_.substr(0, kLineageDigits).c_str(), nullptr, 16), 1) : 0;
}

void RunMark::PutOn(SpawnRequest& request, bool with_lineage) const {
  if (empty()) {
    return;
  }
  std::erase_if(request.environment, [](const auto& variable) { return variable.first == kVariable; });
  request.environment.emplace_back(kVariable, secret_);
  const uint64_t mine = lineage();
  if (mine == 0 || !with_lineage || !GivesLineages()) {
    return;
  }
  request.limits.push_back({RLIMIT_RSS, {kFloor + mine, kFloor + mine}});
  request.limits.push_back({RLIMIT_LOCKS, {kFloor + kLineages - mine, kFloor + kLineages - mine}});
}

uint64_t LineageOfLimits(uint64_t rss, uint64_t locks) {
  const uint64_t lineage = rss - kFloor;
  return rss > kFloor && lineage < kLineages && locks == kFloor + kLineages - lineage ? lineage : 0;
}

uint64_t ParseLineage(const std::string& limits_file) {
  return LineageOfLimits(HardLimit(limits_file, "Max resident set"), HardLimit(limits_file, "Max file locks"));
}

uint64_t LineageOf(pid_t pid) {
  rlimit rss{};
  rlimit locks{};
  if (prlimit(pid, RLIMIT_RSS, nullptr, &rss) == 0 && prlimit(pid, RLIMIT_LOCKS, nullptr, &locks) == 0) {
    return LineageOfLimits(rss.rlim_max, locks.rlim_max);
  }
  return ParseLineage(ReadProcFile(pid, "limits"));  // another user's, which prlimit(2) refuses
}

}  // namespace supervisor
