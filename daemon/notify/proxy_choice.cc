#include "daemon/notify/proxy_choice.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <optional>
#include <vector>

namespace supervisor {
namespace {

constexpr unsigned kBitsPerByte = 8;
constexpr std::string_view kSeparators = ", \t";

std::string Normalized(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  }
  if (host.ends_with('.')) {
    host.remove_suffix(1);
  }
  std::string out(host);
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

// 4 or 16 bytes in network order; nothing for a name.
using Bytes = std::vector<uint8_t>;
std::optional<Bytes> AddressOf(const std::string& text) {
  std::array<uint8_t, sizeof(in6_addr)> address{};
  if (inet_pton(AF_INET, text.c_str(), address.data()) == 1) {
    return Bytes(address.begin(), address.begin() + sizeof(in_addr));
  }
  if (inet_pton(AF_INET6, text.c_str(), address.data()) == 1) {
    return Bytes(address.begin(), address.end());
  }
  return std::nullopt;
}

bool SharesPrefix(const Bytes& a, const Bytes& b, unsigned bits) {
  if (a.size() != b.size() || bits > a.size() * kBitsPerByte) {
    return false;
  }
  const size_t whole = bits / kBitsPerByte;
  const unsigned rest = bits % kBitsPerByte;
  return std::equal(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(whole), b.begin()) &&
         (rest == 0 || (a[whole] >> (kBitsPerByte - rest)) == (b[whole] >> (kBitsPerByte - rest)));
}

// "192.168.0.0/16"
bool IsInNetwork(const Bytes& address, std::string_view network) {
  const size_t slash = network.find('/');
  unsigned bits = 0;
  const std::string_view count = network.substr(slash + 1);
  const auto [rest, error] = std::from_chars(count.data(), count.data() + count.size(), bits);
  const std::optional<Bytes> base = AddressOf(Normalized(network.substr(0, slash)));
  return base && error == std::errc() && rest == count.data() + count.size() && SharesPrefix(address, *base, bits);
}

// One of no_proxy's entries: a host with all below it, an address, or a network.
bool Covers(std::string_view entry, const std::string& host, const std::optional<Bytes>& address) {
  if (address && entry.find('/') != std::string_view::npos) {
    return IsInNetwork(*address, entry);
  }
  std::string name = Normalized(entry);
  if (std::ranges::count(name, ':') == 1) {
    name.resize(name.find(':'));  // a port, which curl does not know and other programs do
  }
  if (address) {
    return AddressOf(name) == address;
  }
  name.erase(0, name.starts_with("*.") ? 2 : name.starts_with('.') ? 1 : 0);
  return !name.empty() && (host == name || host.ends_with("." + name));
}

bool IsExcepted(std::string_view no_proxy, const std::string& host) {
  const std::optional<Bytes> address = AddressOf(host);
  while (!no_proxy.empty()) {
    const size_t begin = no_proxy.find_first_not_of(kSeparators);
    if (begin == std::string_view::npos) {
      return false;
    }
    no_proxy.remove_prefix(begin);
    const std::string_view entry = no_proxy.substr(0, no_proxy.find_first_of(kSeparators));
    no_proxy.remove_prefix(entry.size());
    if (entry == "*" || Covers(entry, host, address)) {
      return true;
    }
  }
  return false;
}

std::string FirstSet(std::initializer_list<const char*> names, const Variable& variable) {
  for (const char* name : names) {
    if (std::string value = variable(name); !value.empty()) {
      return value;
    }
  }
  return "";
}

}  // namespace

bool IsLoopbackHost(std::string_view host) {
  const std::string name = Normalized(host);
  const std::optional<Bytes> address = AddressOf(name);
  if (!address) {
    return name == "localhost" || name.ends_with(".localhost");
  }
  constexpr uint8_t kLoopbackNet = 127;
  const bool is_any =
      std::ranges::all_of(*address, [](uint8_t byte) { return byte == 0; });  // connects to this machine
  if (address->size() == sizeof(in_addr)) {
    return is_any || address->front() == kLoopbackNet;
  }
  const bool is_mapped = SharesPrefix(*address, *AddressOf("::ffff:127.0.0.0"), 104);
  return is_any || is_mapped || *address == *AddressOf("::1");
}

std::string ProxyFor(std::string_view scheme, std::string_view host, const Variable& variable) {
  if (IsLoopbackHost(host) || IsExcepted(FirstSet({"no_proxy", "NO_PROXY"}, variable), Normalized(host))) {
    return "";
  }
  return scheme == "https" ? FirstSet({"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"}, variable)
                           : FirstSet({"http_proxy", "all_proxy", "ALL_PROXY"}, variable);
}

}  // namespace supervisor
