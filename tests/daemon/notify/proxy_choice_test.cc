#include "daemon/notify/proxy_choice.h"

#include <gtest/gtest.h>

#include <map>

namespace supervisor {
namespace {

using Environment = std::map<std::string, std::string>;

std::string Proxy(const char* scheme, const char* host, const Environment& environment) {
  return ProxyFor(scheme, host, [&environment](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? std::string() : found->second;
  });
}

TEST(ProxyChoice, GoesByTheScheme) {
  const Environment both = {{"http_proxy", "p1"}, {"https_proxy", "p2"}, {"ALL_PROXY", "p3"}};
  EXPECT_EQ(Proxy("http", "a.example", both), "p1");
  EXPECT_EQ(Proxy("https", "a.example", both), "p2");
  EXPECT_EQ(Proxy("https", "a.example", {{"http_proxy", "p1"}}), "");
  EXPECT_EQ(Proxy("https", "a.example", {{"HTTPS_PROXY", "p2"}}), "p2");
  EXPECT_EQ(Proxy("http", "a.example", {{"HTTP_PROXY", "p1"}}), "");  // a CGI's client could set it
  EXPECT_EQ(Proxy("http", "a.example", {{"all_proxy", "p3"}}), "p3");
  EXPECT_EQ(Proxy("http", "a.example", {}), "");
}

TEST(ProxyChoice, IsNeverForThisMachine) {
  const Environment all = {{"http_proxy", "p"}, {"https_proxy", "p"}, {"all_proxy", "p"}};
  for (const char* host : {"127.0.0.1", "127.9.9.9", "localhost", "LocalHost", "localhost.", "app.localhost", "[::1]",
                           "::1", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]"}) {
    EXPECT_TRUE(IsLoopbackHost(host)) << host;
    EXPECT_EQ(Proxy("http", host, all), "") << host;
    EXPECT_EQ(Proxy("https", host, all), "") << host;
  }
  for (const char* host :
       {"128.0.0.1", "10.0.0.1", "notlocalhost", "localhost.example", "[::2]", "[fe80::1]", "::ffff:10.0.0.1"}) {
    EXPECT_FALSE(IsLoopbackHost(host)) << host;
    EXPECT_EQ(Proxy("http", host, all), "p") << host;
  }
}

TEST(ProxyChoice, NoProxyExcepts) {
  const auto goes_direct = [](const char* host, const char* no_proxy) {
    return Proxy("http", host, {{"http_proxy", "p"}, {"no_proxy", no_proxy}}).empty();
  };
  for (const char* list : {"*", "x.example", ".x.example", "*.x.example", "other, x.example", "other x.example",
                           "X.Example.", "example", "x.example:80", "a.x.example"}) {
    EXPECT_TRUE(goes_direct("a.x.example", list)) << list;
  }
  for (const char* list : {"", ",", "b.x.example", "ample", "y.example", "10.0.0.0/8", "a.x.example.org"}) {
    EXPECT_FALSE(goes_direct("a.x.example", list)) << list;
  }
  for (const char* list : {"10.1.2.3", "10.0.0.0/8", "10.1.2.0/23", "10.1.2.3/32", "10.1.2.3:8080", "0.0.0.0/0"}) {
    EXPECT_TRUE(goes_direct("10.1.2.3", list)) << list;
  }
  for (const char* list : {"10.1.2.4", "11.0.0.0/8", "10.1.2.0/33", "10.1.2.0/x", "2.3", "fd00::/8", "10.1.2.3/"}) {
    EXPECT_FALSE(goes_direct("10.1.2.3", list)) << list;
  }
  EXPECT_TRUE(goes_direct("[fd00::1]", "fd00::/8"));
  EXPECT_TRUE(goes_direct("[fd00::1]", "[fd00::1]"));
  EXPECT_FALSE(goes_direct("[fd00::1]", "fd00::2"));
  EXPECT_TRUE(Proxy("http", "a.example", {{"http_proxy", "p"}, {"NO_PROXY", "a.example"}}).empty());
}

}  // namespace
}  // namespace supervisor
