#include <fmt/format.h>

#include "ctl/render/text.h"
#include "ctl/render/utf8.h"

namespace supervisor {
namespace {

struct Words {
  std::string_view done;
  std::string_view planned;
};

std::string Lines(const google::protobuf::RepeatedPtrField<v1::ReloadChange>& changes, const Words& words, bool planned,
                  Color shade, bool color) {
  std::string out;
  for (const v1::ReloadChange& change : changes) {
    std::string keys;
    for (const std::string& key : change.keys()) {
      keys += keys.empty() ? "" : ", ";
      keys += EscapeForTerminal(key);
    }
    out += fmt::format("{} {}{}\n", Colored(planned ? words.planned : words.done, shade, color),
                       EscapeForTerminal(change.id()), keys.empty() ? "" : fmt::format(" ({})", keys));
  }
  return out;
}

std::string GlobalLines(const google::protobuf::RepeatedPtrField<std::string>& keys, std::string_view what) {
  std::string out;
  for (const std::string& key : keys) {
    out += fmt::format("{} {}\n", what, EscapeForTerminal(key));
  }
  return out;
}

}  // namespace

std::string ReloadText(const v1::ReloadResponse& response, bool dry_run, bool color) {
  const bool planned = dry_run || !response.applied();
  std::string out;
  out += Lines(response.added(), {.done = "added", .planned = "would add"}, planned, Color::kGreen, color);
  out += Lines(response.removed(), {.done = "removed", .planned = "would remove"}, planned, Color::kRed, color);
  out += Lines(response.restarted(), {.done = "restarted", .planned = "would restart"}, planned, Color::kYellow, color);
  out += Lines(response.updated(), {.done = "updated without a restart", .planned = "would update without a restart"},
               planned, Color::kCyan, color);
  out += GlobalLines(response.global_updated(), planned ? "would update" : "updated");
  out += GlobalLines(response.needs_daemon_restart(), "takes effect when supervisord itself is restarted:");
  if (!response.errors().empty()) {
    return out;
  }
  if (out.empty()) {
    return fmt::format("Nothing has changed ({} services).\n", response.unchanged().size());
  }
  return out + fmt::format("{} unchanged\n", response.unchanged().size());
}

}  // namespace supervisor
