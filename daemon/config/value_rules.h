#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace supervisor {

// What single strings of a configuration must look like. Pure; any thread. Each ...Problem gives a sentence for
// ConfigError::message, or nothing where the string is right; none quotes what may be a secret.

bool IsServiceId(std::string_view text);  // also the form of group names
std::optional<std::string> ServiceIdProblem(std::string_view id);
std::optional<std::string> GroupProblem(std::string_view group);

// `first_scheme` and `second_scheme` such as "http" and "https".
std::optional<std::string> UrlProblem(std::string_view url, std::string_view first_scheme,
                                      std::string_view second_scheme);
std::optional<std::string> HostProblem(std::string_view host);
std::optional<std::string> HeaderNameProblem(std::string_view name);
std::optional<std::string> HeaderValueProblem(std::string_view value);
std::optional<std::string> EnvironmentNameProblem(std::string_view name);
std::optional<std::string> RegexProblem(const std::string& regex);
std::optional<std::string> CommandProblem(std::string_view command);
std::optional<std::string> HeloNameProblem(std::string_view name);
std::optional<std::string> DisplayNameProblem(std::string_view name);
std::optional<std::string> SocketPathProblem(std::string_view path);
std::optional<std::string> PathProblem(std::string_view path);

// Of a user or a group, by name or number. Whether it exists is asked when it is needed.
std::optional<std::string> AccountNameProblem(std::string_view name);
// Of log files, such as "0640": their owner has to be able to read and write them, the daemon being that often.
std::optional<std::string> LogModeProblem(std::string_view mode);

// "022", "0660": octal digits, at most 0777.
std::optional<unsigned> ParseOctalMode(std::string_view text);

}  // namespace supervisor
