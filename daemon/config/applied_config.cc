#include "daemon/config/applied_config.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "common/atomic_file.h"
#include "common/checksum.h"
#include "common/trusted_path.h"
#include "common/unique_fd.h"

namespace supervisor {
namespace {

constexpr std::string_view kHeader = "supervisord-config 1\n";
constexpr std::string_view kChecksum = "checksum ";

// "file PATH_BYTES TEXT_BYTES\n"
struct Sizes {
  size_t path = 0;
  size_t text = 0;
};

std::optional<Sizes> TakeSizes(std::string_view& rest) {
  constexpr std::string_view kFile = "file ";
  if (!rest.starts_with(kFile)) {
    return std::nullopt;
  }
  rest.remove_prefix(kFile.size());
  Sizes sizes;
  const auto take = [&rest](size_t& number, char end) {
    const auto [after, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    const auto used = static_cast<size_t>(after - rest.data());
    if (error != std::errc() || used >= rest.size() || rest[used] != end) {
      return false;
    }
    rest.remove_prefix(used + 1);
    return true;
  };
  return take(sizes.path, ' ') && take(sizes.text, '\n') ? std::optional<Sizes>(sizes) : std::nullopt;
}

}  // namespace

std::string FormatAppliedConfig(const std::vector<ConfigText>& texts) {
  std::string out(kHeader);
  for (const ConfigText& file : texts) {
    out += fmt::format("file {} {}\n{}{}\n", file.path.size(), file.text.size(), file.path, file.text);
  }
  return out + fmt::format("{}{:016x}\n", kChecksum, Checksum(out));
}

absl::StatusOr<std::vector<ConfigText>> ParseAppliedConfig(std::string_view text) {
  const size_t last = text.rfind(kChecksum);
  if (!text.starts_with(kHeader) || last == std::string_view::npos) {
    return absl::DataLossError("not the configuration of a running daemon");
  }
  if (text.substr(last) != fmt::format("{}{:016x}\n", kChecksum, Checksum(text.substr(0, last)))) {
    return absl::DataLossError("the checksum does not match: torn or changed by hand");
  }
  std::vector<ConfigText> texts;
  std::string_view rest = text.substr(kHeader.size(), last - kHeader.size());
  while (!rest.empty()) {
    const std::optional<Sizes> sizes = TakeSizes(rest);
    if (!sizes || sizes->path > rest.size() || sizes->text >= rest.size() - sizes->path) {
      return absl::DataLossError("its parts do not fit together");
    }
    texts.push_back({std::string(rest.substr(0, sizes->path)), std::string(rest.substr(sizes->path, sizes->text))});
    rest.remove_prefix(sizes->path + sizes->text + 1);
  }
  return texts;
}

absl::StatusOr<std::vector<ConfigText>> ReadAppliedConfig(const std::string& path, FileTrust trust) {
  constexpr size_t kMost = size_t{128} << 20;
  const absl::StatusOr<UniqueFd> file = OpenTrustedFile(path, O_RDONLY | O_NOFOLLOW, OwnTrust(trust));
  if (!file.ok()) {
    return file.status();
  }
  if (const std::optional<PathProblem> problem = JudgeOpenFile(file->get(), path, OwnTrust(FileTrust::kStrict))) {
    return absl::FailedPreconditionError(fmt::format("{}: {}", path, problem->what));
  }
  const absl::StatusOr<std::string> text = ReadWholeFile(file->get(), path, kMost);
  return text.ok() ? ParseAppliedConfig(*text) : text.status();
}

}  // namespace supervisor
