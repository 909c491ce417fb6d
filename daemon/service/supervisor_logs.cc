// Supervisor: what the log pump has to tell of a service.

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/service/supervisor.h"

namespace supervisor {

void Supervisor::AfterOutput(const std::vector<std::string>& streams, const std::function<void()>& then) {
  constexpr absl::Duration kPatience = absl::Milliseconds(200);
  if (streams.empty()) {
    then();
    return;
  }
  const auto left = std::make_shared<std::atomic<size_t>>(streams.size());
  for (const std::string& stream : streams) {
    context_.logs.Flush(stream, kPatience, [left, then] {
      if (--*left == 0) {
        then();
      }
    });
  }
}

void Supervisor::RecordLogEvent(const std::string& stream, const std::string& type, const std::string& message) {
  constexpr std::string_view kStderr = ".err";
  Instance* instance = Find(stream);
  if (instance == nullptr && stream.ends_with(kStderr)) {
    instance = Find(stream.substr(0, stream.size() - kStderr.size()));
  }
  if (instance != nullptr) {
    OnRecord(*instance, {.type = type,
                         .message = message,
                         .cause = {.actor = "log capture", .reason = {}},
                         .exit = {},
                         .attempt = 0,
                         .delay = {}});
  }
}

}  // namespace supervisor
