// The pure parts: text, content, /proc lines, addresses.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "daemon/health/content_matcher.h"
#include "daemon/health/http_url.h"
#include "daemon/health/resolver.h"
#include "daemon/health/text.h"
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

using testing::HasSubstr;

TEST(Text, OneLineTail) {
  EXPECT_EQ(OneLineTail("", 100), "");
  EXPECT_EQ(OneLineTail("a\r\n\tb  c\n", 100), "a b c");
  EXPECT_EQ(OneLineTail("\x1b[31mred\x07", 100), "[31mred");
  EXPECT_EQ(OneLineTail("gr\xc3\xbc\xc3\x9f", 100), "gr\xc3\xbc\xc3\x9f");
  EXPECT_EQ(OneLineTail("0123456789", 4), "6789");
  EXPECT_EQ(OneLineTail("a\xff", 100), "a\xef\xbf\xbd");
  EXPECT_EQ(OneLineTail(std::string("nul\0in", 6), 100), "nul in");
  EXPECT_EQ(OneLineTail("c1\xc2\x9b"
                        "31m",
                        100),
            "c1 31m");                                                          // an escape sequence in one character
  EXPECT_EQ(OneLineTail("\xed\xa0\x80", 100).find('\xed'), std::string::npos);  // a surrogate is no UTF-8
  EXPECT_EQ(OneLineTail("\xc0\xaf", 100).find('\xc0'), std::string::npos);      // nor is an overlong slash
}

TEST(Text, OneLineTailKeepsItsBound) {
  const std::string garbage(5000, '\xff');
  EXPECT_LE(OneLineTail(garbage, 4096).size(), 4096u);
  std::string umlauts;
  for (int i = 0; i < 5000; ++i) {
    umlauts += "\xc3\xbc";
  }
  const std::string cut = OneLineTail(umlauts, 4095);
  EXPECT_LE(cut.size(), 4095u);
  EXPECT_EQ(OneLineTail(cut, 10000), cut) << "a message that is valid is left alone";
}

TEST(Text, QuotedExcerpt) {
  EXPECT_EQ(QuotedExcerpt("ok"), "\"ok\"");
  EXPECT_EQ(QuotedExcerpt("a\nb"), "\"a b\"");
  EXPECT_EQ(QuotedExcerpt(std::string(1000, 'x')), "\"" + std::string(60, 'x') + "...\"");
}

TEST(Text, Durations) {
  EXPECT_EQ(DurationText(absl::Milliseconds(3)), "3 ms");
  EXPECT_EQ(DurationText(absl::Seconds(5)), "5.0 s");
}

TEST(Text, ErrnoPhrase) {
  EXPECT_EQ(ErrnoPhrase(ECONNREFUSED), "connection refused");
  EXPECT_EQ(ErrnoPhrase(EIO), "input/output error");
  EXPECT_EQ(ErrnoPhrase(99999), "error 99999");
}

ContentMatcher Matcher(const std::string& content, const std::string& regex, size_t most = 1000) {
  HealthCheckConfig config;
  config.expected_content = content;
  config.expected_regex = regex;
  return ContentMatcher(config, most);
}

TEST(ContentMatcher, NothingExpected) {
  ContentMatcher matcher = Matcher("", "");
  EXPECT_FALSE(matcher.expects_anything());
  EXPECT_TRUE(matcher.is_decided());
  EXPECT_TRUE(matcher.Matches());
}

TEST(ContentMatcher, SubstringAcrossPieces) {
  ContentMatcher matcher = Matcher("needle", "");
  for (const char* piece : {"hay need", "need", "-le", "needl"}) {
    matcher.Append(piece);
    EXPECT_FALSE(matcher.Matches());
  }
  ContentMatcher other = Matcher("needle", "");
  for (const char* piece : {"hay n", "ee", "dl", "e", " hay"}) {
    other.Append(piece);
  }
  EXPECT_TRUE(other.is_decided());
  EXPECT_TRUE(other.expects_anything());
  EXPECT_EQ(other.Failure("body"), std::nullopt);
}

TEST(ContentMatcher, Failures) {
  EXPECT_EQ(Matcher("ok", "").Failure("body"), "body lacks \"ok\"");
  EXPECT_EQ(Matcher("", "^ok$").Failure("output"), "output does not match \"^ok$\"");
  ContentMatcher both = Matcher("ok", "[0-9]+");
  both.Append("ok");
  EXPECT_EQ(both.Failure("body"), "body does not match \"[0-9]+\"");
  both.Append(" 17");
  EXPECT_EQ(both.Failure("body"), std::nullopt);
  EXPECT_FALSE(both.is_decided()) << "more bytes could change what a regular expression says";
}

TEST(ContentMatcher, LooksAtItsFirstBytesOnly) {
  ContentMatcher matcher = Matcher("ok", "", 10);
  matcher.Append("0123456789ok");
  EXPECT_TRUE(matcher.full());
  EXPECT_EQ(matcher.Failure("body"), "body lacks \"ok\" within its first 10 bytes");
}

TEST(ContentMatcher, BadExpressionsAreRefused) {
  EXPECT_THAT(Matcher("", "(").error(), HasSubstr("expected_regex \"(\""));
  EXPECT_THAT(Matcher("", "((a{1000}){1000}){1000}").error(), HasSubstr("expected_regex"));
  EXPECT_EQ(Matcher("", "ok").error(), "");
}

TEST(ProcScan, ParsesTheLine) {
  const auto stat = ParseProcStat(
      "42 (a ) b) (c) S 1 40 41 0 -1 4194560 100 0 0 0 7 5 3 3 20 0 1 0 12345 1000000 250 18446744073709551615 1 1\n");
  ASSERT_TRUE(stat.has_value());
  EXPECT_EQ(stat->pid, 42);
  EXPECT_EQ(stat->state, 'S');
  EXPECT_EQ(stat->parent, 1);
  EXPECT_EQ(stat->group, 40);
  EXPECT_EQ(stat->session, 41);
  EXPECT_EQ(stat->cpu_ticks, 12u);
  EXPECT_EQ(stat->start_ticks, 12345u);
  EXPECT_EQ(stat->rss_pages, 250u);
}

TEST(ProcScan, RefusesWhatIsNone) {
  for (const char* text : {"", "x", "42", "42 (name", "42 (name)", "42 (name) ", "42 (name) S", "42 (name) S 1 1 x",
                           "42 (name) S 1 40 41 0 -1 4194560 100 0 0 0 7 5 3 3 20 0 1 0"}) {
    EXPECT_FALSE(ParseProcStat(text).has_value()) << text;
  }
}

TEST(ProcScan, ReadsThisProcess) {
  const auto self = ReadProcStat(getpid());
  ASSERT_TRUE(self.has_value());
  EXPECT_EQ(self->parent, getppid());
  EXPECT_EQ(self->session, getsid(0));
  EXPECT_GT(self->rss_pages, 0u);
  bool found = false;
  for (const ProcStat& process : ReadAllProcesses()) {
    found = found || process.pid == getpid();
  }
  EXPECT_TRUE(found);
  ASSERT_FALSE(ReadProcessTree(getpid()).empty());
  EXPECT_EQ(ReadProcessTree(getpid()).front().pid, getpid());
}

TEST(ProcScan, NoSuchProcess) {
  EXPECT_FALSE(ReadProcStat(0x3fffffff).has_value());
  EXPECT_TRUE(ReadProcessTree(0x3fffffff).empty());
  EXPECT_EQ(EnvironmentValue(0x3fffffff, "PATH"), std::nullopt);
}

TEST(Addresses, WithoutLookup) {
  EXPECT_EQ(AddressesWithoutLookup("127.0.0.1")->at(0).WithPort(80).ToString(), "127.0.0.1:80");
  EXPECT_EQ(AddressesWithoutLookup("::1")->at(0).WithPort(8080).ToString(), "[::1]:8080");
  EXPECT_EQ(AddressesWithoutLookup("[::1]")->at(0).WithPort(8080).ToString(), "[::1]:8080");
  EXPECT_EQ(AddressesWithoutLookup("LocalHost")->size(), 2u);
  EXPECT_EQ(AddressesWithoutLookup("db.localhost")->size(), 2u);
  EXPECT_FALSE(AddressesWithoutLookup("example.test").has_value());
  EXPECT_FALSE(AddressesWithoutLookup(".localhost").has_value());
  EXPECT_FALSE(AddressesWithoutLookup("[]").has_value());
  EXPECT_FALSE(AddressesWithoutLookup("").has_value());
}

TEST(HttpUrl, Parses) {
  const auto curl = LoadCurl();
  ASSERT_TRUE(curl.ok()) << curl.status();
  const auto url = ParseHttpUrl(**curl, "", "HTTP://User:pw@Example.test/a?b=c");
  ASSERT_TRUE(url.ok()) << url.status();
  EXPECT_EQ(url->scheme, "http");
  EXPECT_EQ(url->host, "Example.test");
  EXPECT_EQ(url->port, 80);
  EXPECT_EQ(ParseHttpUrl(**curl, "", "https://[::1]:8443/")->host, "[::1]");
  EXPECT_EQ(ParseHttpUrl(**curl, "", "https://[::1]:8443/")->port, 8443);
  EXPECT_EQ(ParseHttpUrl(**curl, "", "https://127.1/")->host, "127.0.0.1");
  EXPECT_EQ(ParseHttpUrl(**curl, "http://a.test:81/x/y", "../z")->url, "http://a.test:81/z");
  EXPECT_EQ(ParseHttpUrl(**curl, "http://a.test:81/x/y", "//b.test/z")->host, "b.test");
  EXPECT_TRUE(url->SameOrigin(*ParseHttpUrl(**curl, "", "http://Example.test:80/other")));
  EXPECT_FALSE(url->SameOrigin(*ParseHttpUrl(**curl, "", "https://Example.test/")));
}

TEST(HttpUrl, Refuses) {
  const auto curl = LoadCurl();
  ASSERT_TRUE(curl.ok()) << curl.status();
  for (const char* url : {"", "file:///etc/passwd", "ftp://a.test/", "gopher://a.test/", "http://", "no url",
                          "http://a.test:99999/", "dict://localhost:11211/stats"}) {
    EXPECT_FALSE(ParseHttpUrl(**curl, "", url).ok()) << url;
  }
  EXPECT_FALSE(ParseHttpUrl(**curl, "http://a.test/", "file:///etc/passwd").ok());
  EXPECT_TRUE(ParseHttpUrl(**curl, "", fmt::format("http://{}/", std::string(253, 'a'))).ok());
  EXPECT_FALSE(ParseHttpUrl(**curl, "", fmt::format("http://{}/", std::string(254, 'a'))).ok());
}

}  // namespace
}  // namespace supervisor
