#include "daemon/service/capsule.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "daemon/logs/log_reader.h"

namespace supervisor {
namespace {

constexpr uint64_t kLines = 50;
constexpr size_t kMostBytes = 16 << 10;
constexpr size_t kMostRead = 256 << 10;
}  // namespace

std::string LastLinesAsJson(const std::string& log_file, const SecretMask& secrets) {
  LogReader reader(log_file, LogChain::kSmallGap);
  if (!reader.SeekToLastLines(kLines).ok()) {
    return "";
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
  if (text.size() > kMostBytes) {
    text.erase(0, text.size() - kMostBytes);  // the end says more than the beginning
  }
  nlohmann::json lines = nlohmann::json::array();
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines.empty() ? "" : lines.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace supervisor
