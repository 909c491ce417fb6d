#include "daemon/config/read_depends_on.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "daemon/config/message_text.h"

namespace supervisor {
namespace {

enum class Condition { kReady, kCompleted };
constexpr ObjectReader::Choice<Condition> kConditions[] = {{"ready", Condition::kReady},
                                                           {"completed", Condition::kCompleted}};
constexpr std::string_view kExpected = R"(service ids and {"service": "ID", "condition": "completed"})";

}  // namespace

DependsOn ReadDependsOn(ObjectReader& service) {
  DependsOn result;
  std::set<std::string> seen;
  for (ObjectReader::TextOrObject& element : service.TextsOrObjects("depends_on", kExpected)) {
    std::optional<PlacedText> id = std::move(element.text);
    Condition condition = Condition::kReady;
    if (element.object) {
      ObjectReader& object = *element.object;
      id = object.Placed("service");
      object.Enum("condition", kConditions, &condition);
      if (object.Take("service") == nullptr) {
        object.Report("service", "is missing (expected the id of a service)");
      }
      object.Finish({{"id", "service"}, {"name", "service"}, {"on", "service"}, {"when", "condition"}});
    }
    if (!id) {
      continue;
    }
    if (!seen.insert(id->text).second) {
      service.ReportAt(id->offset, std::move(id->path), fmt::format("{} is listed twice", Quote(id->text)));
      continue;
    }
    if (condition == Condition::kCompleted) {
      result.completed.insert(id->text);
    }
    result.services.push_back(*std::move(id));
  }
  return result;
}

}  // namespace supervisor
