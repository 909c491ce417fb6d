#include "daemon/service/last_lines.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <iterator>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/call_gate.h"
#include "daemon/logs/log_reader.h"

namespace supervisor {
namespace {

constexpr size_t kMostBytes = 16 << 10;
constexpr size_t kMostRead = 256 << 10;
// A storm of ends must not become one of readings: what is beyond this many at once goes without its lines.
constexpr size_t kMostReadings = 256;
constexpr size_t kMostThreads = 8;  // one is enough unless they hang
constexpr std::chrono::milliseconds kTimeToFinish(500);

// The last `most` lines, oldest first. Of what is too long the end stays, which says more than the beginning.
std::vector<std::string> EndOf(const std::string& log_file, const SecretMask& secrets, uint64_t most,
                               size_t most_bytes) {
  std::vector<std::string> lines;
  LogReader reader(log_file, LogChain::kSmallGap);
  if (most == 0 || !reader.Seek({.lines = most, .bytes = kMostRead, .until_now = true}).ok()) {
    return lines;
  }
  std::string text;
  while (text.size() < kMostRead) {
    const absl::StatusOr<std::string> piece = reader.Read(kMostRead - text.size());
    if (!piece.ok() || piece->empty()) {
      break;
    }
    text += *piece;
  }
  text = secrets.Hide(std::move(text));
  if (text.size() > most_bytes) {
    text.erase(0, text.size() - most_bytes);
  }
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

}  // namespace

std::vector<std::string> ReadLastLines(LastLinesOf of, uint64_t most) {
  of.secrets.LearnFile(of.environment_file);
  std::vector<std::string> lines;
  size_t bytes = 0;
  for (auto file = of.log_files.rbegin(); file != of.log_files.rend(); ++file) {
    std::vector<std::string> above =
        EndOf(*file, of.secrets, most - std::min<uint64_t>(lines.size(), most), kMostBytes - bytes);
    for (const std::string& line : above) {
      bytes = std::min(kMostBytes, bytes + line.size() + 1);
    }
    above.insert(above.end(), std::make_move_iterator(lines.begin()), std::make_move_iterator(lines.end()));
    lines = std::move(above);
  }
  return lines;
}

std::string LastLinesAsJson(const std::vector<std::string>& lines) {
  return lines.empty() ? "" : nlohmann::json(lines).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

struct LastLinesReader::Shared {
  CallGate gate;
  std::mutex mutex;
  std::condition_variable changed;
  size_t readings = 0;
  bool finished = false;

  bool Begin() {
    const std::lock_guard lock(mutex);
    if (finished || readings >= kMostReadings) {
      return false;
    }
    ++readings;
    return true;
  }

  void End() {
    const std::lock_guard lock(mutex);
    --readings;
    changed.notify_all();
  }
};

LastLinesReader::LastLinesReader() : shared_(std::make_shared<Shared>()), pool_(kMostThreads) {}

LastLinesReader::~LastLinesReader() { Finish(); }

bool LastLinesReader::Read(LastLinesOf of, uint64_t most, std::function<void(std::vector<std::string>)> then) {
  if (!shared_->Begin()) {
    return false;
  }
  const bool runs = pool_.Run(shared_, [shared = shared_, of = std::move(of), most, then = std::move(then)] {
    std::vector<std::string> lines = ReadLastLines(of, most);
    shared->gate.Call([&] { then(std::move(lines)); });
    shared->End();
  });
  if (!runs) {
    shared_->End();
  }
  return runs;
}

void LastLinesReader::Finish() {
  {
    std::unique_lock lock(shared_->mutex);
    shared_->finished = true;
    shared_->changed.wait_for(lock, kTimeToFinish, [this] { return shared_->readings == 0; });
  }
  shared_->gate.Close();
}

}  // namespace supervisor
