#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace supervisor {

// The proxy that the environment names for a URL, by the variables and rules of curl(1): http_proxy (in lower case
// alone, since a web server could set the other), https_proxy, all_proxy, no_proxy. Empty: none. This machine itself is
// never asked through one. `host` may have the brackets of an IPv6 address. Pure, but for `variable`; any thread.
using Variable = std::function<std::string(const char* name)>;  // empty: not set
std::string ProxyFor(std::string_view scheme, std::string_view host, const Variable& variable);

// An address of this machine's loopback, or a name that always stands for one (RFC 6761, section 6.3).
bool IsLoopbackHost(std::string_view host);

}  // namespace supervisor
