#include "daemon/notify/alert.h"

namespace supervisor {

std::string_view SeverityName(Severity severity) {
  switch (severity) {
    case Severity::kInfo:
      return "info";
    case Severity::kWarning:
      return "warning";
    case Severity::kCritical:
      return "critical";
  }
  return "";
}

Severity ParseSeverity(std::string_view name) {
  if (name == "info") {
    return Severity::kInfo;
  }
  return name == "critical" ? Severity::kCritical : Severity::kWarning;
}

}  // namespace supervisor
