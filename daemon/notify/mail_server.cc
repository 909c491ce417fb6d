#include "daemon/notify/mail_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

namespace supervisor {
namespace {

constexpr int kHex = 16;
constexpr size_t kEscape = 3;  // "%XX"

// What is no %XX stays as it is.
std::string Decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned byte = 0;
    const char* const end = text.data() + std::min(text.size(), i + kEscape);
    const bool may_be = text[i] == '%' && i + kEscape <= text.size();
    if (may_be && std::from_chars(text.data() + i + 1, end, byte, kHex).ptr == end) {
      out += static_cast<char>(byte);
      i += kEscape - 1;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string Encoded(std::string_view text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~[]:";
  std::string out;
  for (const char c : text) {
    out += kPlain.find(c) != std::string_view::npos ? std::string(1, c)
                                                    : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

// "user;AUTH=PLAIN:password"
void TakeLogin(std::string_view login, MailServer& server) {
  const size_t colon = login.find(':');
  std::string_view user = login.substr(0, colon);
  if (const size_t options = user.find(";AUTH="); options != std::string_view::npos) {
    server.login_options = Decoded(user.substr(options + 1));
    user = user.substr(0, options);
  }
  server.username = Decoded(user);
  server.password = colon == std::string_view::npos ? "" : Decoded(login.substr(colon + 1));
}

}  // namespace

MailServer MailServerOf(const ChannelConfig& channel) {
  MailServer server;
  const std::string_view url = channel.smtp_url;
  const size_t scheme = url.find("://");
  const size_t begin = scheme == std::string_view::npos ? 0 : scheme + 3;
  const std::string_view rest = url.substr(begin);
  const std::string_view authority = rest.substr(0, rest.find_first_of("/?#"));
  const size_t at = authority.rfind('@');
  const std::string_view host = at == std::string_view::npos ? authority : authority.substr(at + 1);
  if (at != std::string_view::npos) {
    TakeLogin(authority.substr(0, at), server);
  }
  server.url = std::string(url.substr(0, begin)) + std::string(host);
  server.url += channel.helo.empty() ? std::string(rest.substr(authority.size())) : "/" + Encoded(channel.helo);
  if (!channel.username.empty()) {
    server.username = channel.username;
    server.password = channel.password;
  }
  return server;
}

}  // namespace supervisor
