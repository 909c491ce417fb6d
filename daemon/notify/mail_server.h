#pragma once

#include <string>

#include "daemon/config/config.h"

namespace supervisor {

// Where and as whom a channel's mails are handed over, in the parts that libcurl takes one by one.
struct MailServer {
  std::string url;  // without a login; its path is the name in EHLO (libcurl's own convention), if one is given
  std::string username;
  std::string password;
  std::string login_options;  // "AUTH=PLAIN", as in "smtp://user;AUTH=PLAIN:password@host"
};

// The keys "username", "password" and "helo" go before what smtp_url says. A login in smtp_url is what stands before
// the last "@" of its authority, with %XX for any byte; so "smtp://user@domain:pass@host" means what it looks like.
// Pure; any thread.
MailServer MailServerOf(const ChannelConfig& channel);

}  // namespace supervisor
