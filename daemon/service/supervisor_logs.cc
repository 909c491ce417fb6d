// Supervisor: what the log pump has to tell of a service.

#include <string>
#include <string_view>

#include "daemon/service/supervisor.h"

namespace supervisor {

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
