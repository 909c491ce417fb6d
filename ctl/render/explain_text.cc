#include <fmt/format.h>

#include <vector>

#include "ctl/render/text.h"
#include "ctl/render/utf8.h"
#include "ctl/render/words.h"

namespace supervisor {
namespace {

std::string Title(std::string_view text, bool color) {
  return fmt::format("\n{}\n", Colored(text, Color::kBold, color));
}

template <class Strings>
std::string Joined(const Strings& values) {
  std::string out;
  for (const std::string& value : values) {
    out += out.empty() ? "" : ", ";
    out += EscapeForTerminal(value);
  }
  return out;
}

std::string Headline(const v1::ServiceStatus& service, bool color) {
  std::string out = Colored(EscapeForTerminal(service.id()), Color::kBold, color);
  if (!service.name().empty() && service.name() != service.id()) {
    out += fmt::format(" ({})", EscapeForTerminal(service.name()));
  }
  out += fmt::format(" is {}", Colored(StateWord(service.state()), StateColor(service.state()), color));
  if (!service.reason().empty()) {
    out += ": " + EscapeForTerminal(service.reason());
  }
  return out + "\n";
}

std::string Facts(const v1::ServiceStatus& service) {
  std::string out;
  const auto add = [&](std::string_view label, const std::string& value) {
    if (!value.empty()) {
      out += fmt::format("  {:<12} {}\n", label, value);
    }
  };
  add("about", EscapeForTerminal(service.description()));
  if (service.pid() != 0) {
    add("process", fmt::format("pid {}, up {}, since {} UTC", service.pid(), UptimeText(service.uptime_seconds()),
                               TimeText(service.started_unix_ms())));
  }
  if (service.pid() != 0 && service.memory_mb() > 0) {  // not before it was measured
    add("usage", fmt::format("CPU {}, memory {}", CpuText(service.cpu_percent()), MemoryText(service.memory_mb())));
  }
  add("limits", LimitsText(service));
  add("says", EscapeForTerminal(service.status_text()));
  add("last exit", LastExitText(service));
  add("restarts", fmt::format_int(service.restart_count()).str());
  add("set up as", fmt::format("{}{}, priority {}", service.enabled() ? "enabled" : "disabled",
                               service.critical() ? ", critical" : "", service.priority()));
  add("depends on", Joined(service.depends_on()));
  add("groups", Joined(service.groups()));
  if (service.log_dropped_bytes() != 0) {
    add("log", fmt::format("{} bytes of output could not be written", service.log_dropped_bytes()));
  }
  return out;
}

std::string HealthSection(const v1::ServiceHealth& health, bool color) {
  std::string out = Title("Health", color);
  out += fmt::format("  {} ({} check)", Colored(HealthWord(health.health()), HealthColor(health.health()), color),
                     EscapeForTerminal(health.check_type()));
  if (health.consecutive_failures() != 0) {
    out += fmt::format(", failed {} times in a row", health.consecutive_failures());
  }
  out += '\n';
  if (!health.message().empty()) {
    out += fmt::format("  last check: {}\n", EscapeForTerminal(health.message()));
  }
  return out;
}

}  // namespace

std::string ExplainText(const v1::ExplainResponse& response, bool color) {
  std::string out = Headline(response.service(), color) + Facts(response.service());
  if (!response.causes().empty()) {
    out += Title("Why", color);
    int number = 0;
    for (const std::string& cause : response.causes()) {
      out += fmt::format("  {}. {}\n", ++number, EscapeForTerminal(cause));
    }
  }
  if (!response.next().empty()) {
    out += Title("What happens next", color) + fmt::format("  {}\n", EscapeForTerminal(response.next()));
  }
  if (response.has_health() && !response.health().check_type().empty()) {
    out += HealthSection(response.health(), color);
  }
  if (!response.last_lines().empty()) {
    out += Title("The last lines it wrote", color);
    for (const std::string& line : response.last_lines()) {
      out += fmt::format("  | {}\n", EscapeForTerminal(line));
    }
  }
  if (!response.events().empty()) {
    out += Title("Events", color);
    for (const v1::Event& event : response.events()) {
      out += "  " + EventLine(event, color);
    }
  }
  return out;
}

}  // namespace supervisor
