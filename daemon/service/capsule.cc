#include "daemon/service/capsule.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "daemon/logs/log_reader.h"

namespace supervisor {
namespace {

constexpr uint64_t kLines = 50;
constexpr size_t kMostBytes = 16 << 10;
constexpr size_t kMostRead = 256 << 10;

// The last `most` lines, oldest first.
std::vector<std::string> EndOf(const std::string& log_file, const SecretMask& secrets, uint64_t most,
                               size_t most_bytes) {
  std::vector<std::string> lines;
  LogReader reader(log_file, LogChain::kSmallGap);
  if (most == 0 || !reader.SeekToLastLines(most).ok()) {
    return lines;
  }
  std::string text;
  while (text.size() < kMostRead) {
    const absl::StatusOr<std::string> piece = reader.Read(kMostRead);
    if (!piece.ok() || piece->empty()) {
      break;
    }
    text += *piece;
  }
  text = secrets.Hide(std::move(text));
  if (text.size() > most_bytes) {
    text.erase(0, text.size() - most_bytes);  // the end says more than the beginning
  }
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

}  // namespace

std::string LastLinesAsJson(const std::vector<std::string>& log_files, const SecretMask& secrets) {
  std::vector<std::string> lines;
  size_t bytes = 0;
  for (auto file = log_files.rbegin(); file != log_files.rend(); ++file) {
    std::vector<std::string> above =
        EndOf(*file, secrets, kLines - std::min<size_t>(lines.size(), kLines), kMostBytes - bytes);
    for (const std::string& line : above) {
      bytes = std::min(kMostBytes, bytes + line.size() + 1);
    }
    above.insert(above.end(), std::make_move_iterator(lines.begin()), std::make_move_iterator(lines.end()));
    lines = std::move(above);
  }
  return lines.empty() ? "" : nlohmann::json(lines).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace supervisor
