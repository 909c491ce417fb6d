#include "daemon/config/mail_address.h"

#include <algorithm>
#include <optional>

namespace supervisor {
namespace {

constexpr const char* kExpected =
    "is no mail address (expected one such as \"ops@example.com\" or \"Operations <ops@example.com>\")";

absl::Status NoAddress() { return absl::InvalidArgumentError(kExpected); }

std::string_view Trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  return first == std::string_view::npos ? "" : text.substr(first, text.find_last_not_of(" \t") + 1 - first);
}

bool IsAddress(std::string_view text) {
  return !text.empty() && text.find_first_of(" \t<>,;\"") == std::string_view::npos && !text.ends_with('@') &&
         !text.starts_with('@');
}

// The text of a quoted string (RFC 5322, section 3.2.4), whose quotes are the first and last characters.
std::optional<std::string> Unquoted(std::string_view quoted) {
  if (quoted.size() < 2 || !quoted.ends_with('"')) {
    return std::nullopt;
  }
  quoted = quoted.substr(1, quoted.size() - 2);
  std::string text;
  for (size_t i = 0; i < quoted.size(); ++i) {
    if (quoted[i] == '"' || (quoted[i] == '\\' && ++i == quoted.size())) {
      return std::nullopt;
    }
    text += quoted[i];
  }
  return text;
}

}  // namespace

absl::StatusOr<Mailbox> ParseMailbox(std::string_view text) {
  if (text.empty()) {
    return absl::InvalidArgumentError("is empty (expected a mail address)");
  }
  if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; })) {
    return absl::InvalidArgumentError("holds a control character (expected a mail address on one line)");
  }
  text = Trimmed(text);
  if (!text.ends_with('>')) {
    if (!IsAddress(text)) {
      return NoAddress();
    }
    return Mailbox{.name = "", .address = std::string(text)};
  }
  const size_t open = text.rfind('<');
  if (open == std::string_view::npos) {
    return NoAddress();
  }
  const std::string_view address = Trimmed(text.substr(open + 1, text.size() - open - 2));
  std::string_view name = Trimmed(text.substr(0, open));
  if (!IsAddress(address)) {
    return NoAddress();
  }
  Mailbox mailbox{.name = std::string(name), .address = std::string(address)};
  if (name.starts_with('"')) {
    const std::optional<std::string> unquoted = Unquoted(name);
    if (!unquoted) {
      return NoAddress();
    }
    mailbox.name = *unquoted;
    return mailbox;
  }
  const bool holds_another =
      name.find('@') != std::string_view::npos && name.find_first_of(",;") != std::string_view::npos;
  if (holds_another || name.find_first_of("<>\"") != std::string_view::npos) {
    return NoAddress();
  }
  return mailbox;
}

}  // namespace supervisor
