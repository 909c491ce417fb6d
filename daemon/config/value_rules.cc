#include "daemon/config/value_rules.h"

#include <fmt/format.h>
#include <re2/re2.h>
#include <sys/un.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "daemon/config/message_text.h"

namespace supervisor {
namespace {

constexpr size_t kLongestId = 64;
constexpr std::string_view kSpace = " \t\r\n";

bool IsAlphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }
bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }
bool HasControl(std::string_view text) { return std::any_of(text.begin(), text.end(), IsControl); }
bool HasSpace(std::string_view text) { return text.find_first_of(kSpace) != std::string_view::npos; }

bool EqualIgnoringCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  });
}

bool IsPortNumber(std::string_view text) {
  unsigned port = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && rest == text.data() + text.size() && port >= 1 && port <= 65535;
}

// "host", "host:80", "[::1]:80", each with "user:password@" before it.
std::optional<std::string> AuthorityProblem(std::string_view authority) {
  if (const size_t at = authority.rfind('@'); at != std::string_view::npos) {
    authority.remove_prefix(at + 1);
  }
  std::string_view host = authority.substr(0, authority.find(':'));
  if (authority.starts_with('[')) {
    const size_t close = authority.find(']');
    if (close == std::string_view::npos) {
      return "has a \"[\" without \"]\" (expected an IPv6 address as in http://[::1]:8080/)";
    }
    host = authority.substr(0, close + 1);
  }
  if (host.empty()) {
    return "names no host (expected one as in http://127.0.0.1:8080/health)";
  }
  const std::string_view port = authority.substr(host.size());
  if (!port.empty() && (port.front() != ':' || !IsPortNumber(port.substr(1)))) {
    return "has a wrong port (expected a number from 1 to 65535 after the host, as in http://127.0.0.1:8080/health)";
  }
  return std::nullopt;
}

}  // namespace

bool IsServiceId(std::string_view text) {
  return !text.empty() && text.size() <= kLongestId && IsAlphanumeric(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return IsAlphanumeric(c) || c == '_' || c == '.' || c == '-'; });
}

std::optional<std::string> ServiceIdProblem(std::string_view id) {
  if (!IsServiceId(id)) {
    return fmt::format("{} is no service id (expected 1 to 64 of A-Z a-z 0-9 _ . -, a letter or digit first)",
                       Quote(id));
  }
  if (id == "all") {
    return "\"all\" is reserved: it means every service (expected another id)";
  }
  if (id == "supervisor") {
    return "\"supervisor\" is reserved: events of the daemon itself carry it (expected another id)";
  }
  return std::nullopt;
}

std::optional<std::string> GroupProblem(std::string_view group) {
  if (IsServiceId(group)) {
    return std::nullopt;
  }
  return fmt::format(
      "{} is no group name (expected 1 to 64 of A-Z a-z 0-9 _ . -, a letter or digit first; the @ of "
      "\"@backend\" is written only on the command line)",
      Quote(group));
}

std::optional<std::string> UrlProblem(std::string_view url, std::string_view first_scheme,
                                      std::string_view second_scheme) {
  const std::string expected = fmt::format("(expected {}://... or {}://...)", first_scheme, second_scheme);
  const size_t separator = url.find("://");
  if (separator == std::string_view::npos) {
    return fmt::format("is no URL {}", expected);
  }
  const std::string_view scheme = url.substr(0, separator);
  if (!EqualIgnoringCase(scheme, first_scheme) && !EqualIgnoringCase(scheme, second_scheme)) {
    return fmt::format("has the scheme {} {}", Quote(scheme), expected);
  }
  if (HasSpace(url) || HasControl(url)) {
    return "holds a space or control character (write a space as %20)";
  }
  const std::string_view rest = url.substr(separator + 3);
  return AuthorityProblem(rest.substr(0, rest.find_first_of("/?#")));
}

std::optional<std::string> HostProblem(std::string_view host) {
  if (host.empty()) {
    return "is empty (expected a host name or address, such as \"127.0.0.1\")";
  }
  if (HasSpace(host) || HasControl(host) || host.find_first_of("/@[]") != std::string_view::npos) {
    return "is no host (expected a bare host name or address, such as \"127.0.0.1\" or \"::1\")";
  }
  if (std::count(host.begin(), host.end(), ':') == 1) {
    return "holds a port (expected the host alone; the port is the key \"port\")";
  }
  return std::nullopt;
}

std::optional<std::string> HeaderNameProblem(std::string_view name) {
  static constexpr std::string_view kTokenMarks = "!#$%&'*+-.^_`|~";
  const auto is_token = [](char c) { return IsAlphanumeric(c) || kTokenMarks.find(c) != std::string_view::npos; };
  if (!name.empty() && std::all_of(name.begin(), name.end(), is_token)) {
    return std::nullopt;
  }
  return fmt::format("{} is no header name (expected one such as \"Authorization\", without colon or space)",
                     Quote(name));
}

std::optional<std::string> HeaderValueProblem(std::string_view value) {
  if (value.find_first_of("\r\n") == std::string_view::npos) {
    return std::nullopt;
  }
  return "holds a line break (a header is one line)";
}

std::optional<std::string> EnvironmentNameProblem(std::string_view name) {
  if (name.empty()) {
    return "an environment variable without a name";
  }
  if (name.find('=') != std::string_view::npos) {
    return "a name of an environment variable cannot hold \"=\" (expected \"NAME\": \"value\")";
  }
  if (name.find('\0') != std::string_view::npos) {
    return "a name of an environment variable cannot hold a NUL character";
  }
  if (name.find("${") != std::string_view::npos) {
    return "variables are replaced in values only, not in names";
  }
  return std::nullopt;
}

std::optional<std::string> RegexProblem(const std::string& regex) {
  RE2::Options options;
  options.set_log_errors(false);
  const RE2 compiled(regex, options);
  if (compiled.ok()) {
    return std::nullopt;
  }
  return fmt::format("is no valid regular expression: {} (expected RE2 syntax; a backslash is written \\\\ in JSON)",
                     compiled.error());
}

std::optional<std::string> CommandProblem(std::string_view command) {
  const size_t space = command.find_first_of(kSpace);
  const std::string_view program = command.substr(0, space);
  if (program.empty()) {
    return "begins with a space (expected the name or path of a program)";
  }
  if (space == std::string_view::npos || program.find('/') != std::string_view::npos) {
    return std::nullopt;  // a path may hold spaces
  }
  return fmt::format("holds a space, but no shell splits it (expected the program alone, {}, and the rest in \"args\")",
                     Quote(program));
}

std::optional<std::string> HeloNameProblem(std::string_view name) {
  if (HasSpace(name) || HasControl(name) || name.find_first_of("/@<>") != std::string_view::npos) {
    return "is no host name (expected the name that this machine gives the mail server, such as \"web1.example.com\")";
  }
  return std::nullopt;
}

std::optional<std::string> DisplayNameProblem(std::string_view name) {
  if (!HasControl(name)) {
    return std::nullopt;
  }
  return "holds a control character (expected one line of text)";
}

std::optional<std::string> AccountNameProblem(std::string_view name) {
  constexpr size_t kLongest = 256;
  const bool is_odd = std::ranges::any_of(name, [](unsigned char c) { return c <= ' ' || c == ':' || c == '/'; });
  if (!is_odd && name.size() <= kLongest && !name.starts_with('-')) {
    return std::nullopt;
  }
  return fmt::format("is {}, which names no account (expected a name or a number, without spaces, \":\" or \"/\")",
                     Quote(name));
}

std::optional<std::string> LogModeProblem(std::string_view mode) {
  constexpr unsigned kOwnerReadsAndWrites = 0600;
  if (mode.empty()) {
    return std::nullopt;
  }
  const std::optional<unsigned> bits = ParseOctalMode(mode);
  if (!bits) {
    return fmt::format("is {} (expected a string of octal digits, such as \"0640\", at most \"0777\")", Quote(mode));
  }
  if ((*bits & kOwnerReadsAndWrites) != kOwnerReadsAndWrites) {
    return fmt::format("is {}, with which the file's owner could not read and write it (expected \"0600\" or more)",
                       Quote(mode));
  }
  return std::nullopt;
}

std::optional<std::string> SocketPathProblem(std::string_view path) {
  constexpr size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  if (path.size() <= kLongest) {
    return std::nullopt;
  }
  return fmt::format("is a path of {} bytes: {} (expected at most {}, the kernel's limit for sockets)", path.size(),
                     Quote(path), kLongest);
}

std::optional<std::string> PathProblem(std::string_view path) {
  if (path != "~" && !path.starts_with("~/")) {
    return std::nullopt;
  }
  return "begins with \"~\", which only a shell replaces (expected an absolute path, or ${HOME}/...)";
}

std::optional<unsigned> ParseOctalMode(std::string_view text) {
  unsigned mode = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, mode, 8);
  if (text.empty() || error != std::errc() || rest != end || mode > 0777) {
    return std::nullopt;
  }
  return mode;
}

}  // namespace supervisor
