#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "daemon/health/checker.h"
#include "daemon/health/resolver.h"
#include "tests/daemon/health/check_runner.h"
#include "tests/daemon/health/tiny_server.h"

namespace supervisor {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;

HealthCheckConfig Http(const std::string& url) {
  HealthCheckConfig config;
  config.type = HealthCheckType::kHttp;
  config.url = url;
  config.timeout = absl::Seconds(10);
  return config;
}

class HttpCheck : public testing::Test {
 protected:
  CheckResult Run(const HealthCheckConfig& config) { return RunCheck(checker_, config); }
  Checker checker_;
};

TEST_F(HttpCheck, Ok) {
  TinyServer server(Answer(Response(200, "fine")));
  const CheckResult result = Run(Http(server.Url("/health")));
  EXPECT_TRUE(result.success) << result.message;
  EXPECT_THAT(result.message, MatchesRegex("HTTP 200 in [0-9.]+ m?s"));
  EXPECT_GT(result.response_time_ms, 0);
  EXPECT_LT(result.response_time_ms, 9000);
  EXPECT_GT(result.finished, absl::UnixEpoch());
}

TEST_F(HttpCheck, UnexpectedStatus) {
  TinyServer server(Answer(Response(503, "busy")));
  HealthCheckConfig config = Http(server.Url());
  EXPECT_EQ(Run(config).message, "HTTP 503 (expected 200)");
  config.expected_status = {{200, 200}, {204, 204}};
  EXPECT_EQ(Run(config).message, "HTTP 503 (expected 200, 204)");
  config.expected_status = {{200, 299}, {503, 503}};
  EXPECT_TRUE(Run(config).success);
}

TEST_F(HttpCheck, UnexpectedStatusNeedsNoBody) {
  TinyServer server([](const TinyServer::Peer& peer) {
    peer.ReadRequest();
    peer.Send("HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n");
    peer.WaitUntilClosed();
  });
  EXPECT_EQ(Run(Http(server.Url())).message, "HTTP 500 (expected 200)");
}

TEST_F(HttpCheck, Content) {
  TinyServer server(Answer(Response(200, "all is well\n")));
  HealthCheckConfig config = Http(server.Url());
  config.expected_content = "is well";
  EXPECT_TRUE(Run(config).success);
  config.expected_content = "ok";
  EXPECT_EQ(Run(config).message, "body lacks \"ok\" (HTTP 200)");
  config.expected_content = "";
  config.expected_regex = "^all .* well\\s*$";
  EXPECT_TRUE(Run(config).success);
  config.expected_regex = "^well";
  EXPECT_EQ(Run(config).message, "body does not match \"^well\" (HTTP 200)");
  config.expected_regex = "(";
  EXPECT_THAT(Run(config).message, StartsWith("expected_regex \"(\""));
}

TEST_F(HttpCheck, RequestIsAsConfigured) {
  std::mutex mutex;
  std::string request;
  TinyServer server([&](const TinyServer::Peer& peer) {
    const std::string read = peer.ReadRequest();
    {
      const std::lock_guard lock(mutex);
      request = read;
    }
    peer.Send(Response(200, ""));
  });
  const auto seen = [&] {
    const std::lock_guard lock(mutex);
    return request;
  };
  HealthCheckConfig config = Http(server.Url("/x?y=z"));
  config.headers = {{"X-Probe", "one"}, {"Host", "app.test"}, {"X-Empty", ""}};
  ASSERT_TRUE(Run(config).success);
  EXPECT_THAT(seen(), StartsWith("GET /x?y=z HTTP/1.1\r\n"));
  EXPECT_THAT(seen(), HasSubstr("X-Probe: one\r\n"));
  EXPECT_THAT(seen(), HasSubstr("Host: app.test\r\n"));
  EXPECT_THAT(seen(), HasSubstr("X-Empty:\r\n"));
  EXPECT_THAT(seen(), HasSubstr("User-Agent: supervisord/"));
  EXPECT_THAT(seen(), Not(HasSubstr("Accept-Encoding")));

  config.method = "POST";
  ASSERT_TRUE(Run(config).success);
  EXPECT_THAT(seen(), StartsWith("POST /x?y=z HTTP/1.1\r\n"));
  EXPECT_THAT(seen(), HasSubstr("Content-Length: 0\r\n"));
  EXPECT_THAT(seen(), Not(HasSubstr("Content-Type")));

  config.method = "HEAD";
  ASSERT_TRUE(Run(config).success);
  EXPECT_THAT(seen(), StartsWith("HEAD /x?y=z HTTP/1.1\r\n"));

  config.method = "OPTIONS";
  ASSERT_TRUE(Run(config).success);
  EXPECT_THAT(seen(), StartsWith("OPTIONS /x?y=z HTTP/1.1\r\n"));
}

TEST_F(HttpCheck, HeaderWithALineBreakIsRefused) {
  HealthCheckConfig config = Http("http://127.0.0.1:1/");
  config.headers = {{"X", "a\r\nY: b"}};
  EXPECT_EQ(Run(config).message, "header \"X\" holds a line break");
}

TEST_F(HttpCheck, IgnoresProxiesOfTheEnvironment) {
  RefusedPort proxy;
  setenv("http_proxy", fmt::format("http://127.0.0.1:{}", proxy.port()).c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
  TinyServer server(Answer(Response(200, "")));
  EXPECT_TRUE(Run(Http(server.Url())).success);
  unsetenv("http_proxy");  // NOLINT(concurrency-mt-unsafe)
}

TEST_F(HttpCheck, ConnectionRefused) {
  RefusedPort refused;
  const CheckResult result = Run(Http(fmt::format("http://127.0.0.1:{}/", refused.port())));
  EXPECT_FALSE(result.success);
  EXPECT_EQ(result.message, fmt::format("connection refused (127.0.0.1:{})", refused.port()));
}

TEST_F(HttpCheck, ClosesAtOnce) {
  TinyServer server([](const TinyServer::Peer& peer) { peer.ReadRequest(); });
  EXPECT_THAT(Run(Http(server.Url())).message, StartsWith("connection closed without an answer (127.0.0.1:"));
}

TEST_F(HttpCheck, ClosesInTheMiddleOfTheBody) {
  TinyServer server(Answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"));
  EXPECT_THAT(Run(Http(server.Url())).message, StartsWith("connection closed in the middle of the body"));
}

TEST_F(HttpCheck, ClosesInTheMiddleOfTheHeaders) {
  const std::map<std::string, int> answers = {{"HTTP/1.1 500 Err\r\n", 500},
                                              {"HTTP/1.1 500 Err\r\nFoo: ba", 500},
                                              {"HTTP/1.1 500 Err\r\nFoo: bar\r\n", 500},
                                              {"HTTP/1.1 200 OK\r\n", 200},
                                              {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nFoo: ba", 200},
                                              {"HTTP/1.1 302 Found\r\nLocation: /there\r\n", 302},

                                              {"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nFoo: ba", 200}};
  for (const auto& [answer, status] : answers) {
    TinyServer server(Answer(answer));
    for (const char* method : {"GET", "HEAD"}) {
      HealthCheckConfig config = Http(server.Url());
      config.method = method;
      const CheckResult result = Run(config);
      EXPECT_FALSE(result.success) << answer;
      EXPECT_EQ(result.message, fmt::format("connection closed in the middle of the headers (127.0.0.1:{}, HTTP {})",
                                            server.port(), status))
          << answer;
    }
  }
}

TEST_F(HttpCheck, Resets) {
  TinyServer server([](const TinyServer::Peer& peer) {
    peer.ReadRequest();
    peer.Reset();
  });
  EXPECT_EQ(Run(Http(server.Url())).message, fmt::format("connection reset by peer (127.0.0.1:{})", server.port()));
}

TEST_F(HttpCheck, NotHttp) {
  TinyServer server(Answer("SSH-2.0-OpenSSH_9.2\r\n"));
  EXPECT_THAT(Run(Http(server.Url())).message, StartsWith("the answer is not HTTP (127.0.0.1:"));
}

TEST_F(HttpCheck, NeverAnswers) {
  TinyServer server([](const TinyServer::Peer& peer) { peer.WaitUntilClosed(); });
  HealthCheckConfig config = Http(server.Url());
  config.timeout = absl::Milliseconds(300);
  const CheckResult result = Run(config);
  EXPECT_FALSE(result.success);
  EXPECT_THAT(result.message, StartsWith("timed out after 300 ms (waiting for an answer from 127.0.0.1:"));
  EXPECT_GE(result.response_time_ms, 298);  // timers count whole milliseconds
  EXPECT_LT(result.response_time_ms, 10'000);
}

TEST_F(HttpCheck, SlowHeaders) {
  TinyServer server([](const TinyServer::Peer& peer) {
    peer.ReadRequest();
    peer.Send("HTTP/1.1 200 OK\r\n");
    while (peer.Pause(20) && peer.Send("X: y\r\n")) {
    }
  });
  HealthCheckConfig config = Http(server.Url());
  config.timeout = absl::Seconds(2);  // enough for the first of them to have come
  EXPECT_THAT(Run(config).message, MatchesRegex("timed out after 2.0 s \\(the headers from .* did not end\\)"));
}

TEST_F(HttpCheck, SlowBody) {
  TinyServer server([](const TinyServer::Peer& peer) {
    peer.ReadRequest();
    peer.Send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    while (peer.Pause(20) && peer.Send("x")) {
    }
  });
  HealthCheckConfig config = Http(server.Url());
  config.timeout = absl::Seconds(2);  // enough for some of it to have come
  EXPECT_THAT(Run(config).message,
              MatchesRegex("timed out after 2.0 s \\(HTTP 200, but its body did not end: [0-9]+ bytes came\\)"));
  config.expected_content = "xxx";  // decides it before the end
  config.timeout = absl::Seconds(20);
  EXPECT_TRUE(Run(config).success);
}

void SendEndlessBody(const TinyServer::Peer& peer) {
  peer.ReadRequest();
  peer.Send("HTTP/1.1 200 OK\r\n\r\nbegin ");
  const std::string block(64 << 10, 'x');
  while (peer.Send(block)) {
  }
}

TEST_F(HttpCheck, EndlessBody) {
  TinyServer server(SendEndlessBody);
  HealthCheckConfig config = Http(server.Url());
  EXPECT_TRUE(Run(config).success);
  config.expected_content = "begin";
  EXPECT_TRUE(Run(config).success);
  config.expected_content = "end";
  EXPECT_EQ(Run(config).message, "body lacks \"end\" within its first 1048576 bytes (HTTP 200)");
  config.expected_content = "";
  config.expected_regex = "^begin x+";
  EXPECT_TRUE(Run(config).success) << "judged on a helper thread";
  config.expected_regex = "y";
  EXPECT_EQ(Run(config).message, "body does not match \"y\" within its first 1048576 bytes (HTTP 200)");
}

TEST_F(HttpCheck, EndlessHeaders) {
  TinyServer server([](const TinyServer::Peer& peer) {
    peer.ReadRequest();
    peer.Send("HTTP/1.1 200 OK\r\n");
    while (peer.Send("X-Padding: " + std::string(1000, 'x') + "\r\n")) {
    }
  });
  EXPECT_EQ(Run(Http(server.Url())).message, "the response headers exceed 256 KiB");
}

TEST_F(HttpCheck, EndlessInterimAnswers) {
  TinyServer server([](const TinyServer::Peer& peer) {
    peer.ReadRequest();
    while (peer.Send("HTTP/1.1 100 Continue\r\n\r\n")) {
    }
  });
  EXPECT_FALSE(Run(Http(server.Url())).success);
}

TEST_F(HttpCheck, InterimAnswerThenOk) {
  TinyServer server(Answer("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + Response(200, "fine")));
  EXPECT_TRUE(Run(Http(server.Url())).success);
}

std::string Gzip(const std::string& plain) {
  z_stream stream{};
  constexpr int kGzipWindow = 15 + 16;
  constexpr int kMemory = 8;
  deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, kGzipWindow, kMemory, Z_DEFAULT_STRATEGY);
  std::string input = plain;
  std::string output(deflateBound(&stream, input.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
  stream.next_out = reinterpret_cast<Bytef*>(output.data());
  stream.avail_out = static_cast<uInt>(output.size());
  deflate(&stream, Z_FINISH);
  output.resize(stream.total_out);
  deflateEnd(&stream);
  return output;
}

TEST_F(HttpCheck, FollowsRedirects) {
  TinyServer server([](const TinyServer::Peer& peer) {
    const std::string request = peer.ReadRequest();
    peer.Send(request.starts_with("GET /b/there ") ? Response(200, "here")
                                                   : Response(302, "", "Location: b/there\r\n"));
  });
  HealthCheckConfig config = Http(server.Url());
  config.expected_content = "here";
  EXPECT_TRUE(Run(config).success) << Run(config).message;
  config.follow_redirects = false;
  EXPECT_EQ(Run(config).message, "HTTP 302 (expected 200)");
  config.expected_content = "";
  config.follow_redirects = true;
  config.expected_status = {{302, 302}};  // asked for, so not followed
  EXPECT_TRUE(Run(config).success);
}

TEST_F(HttpCheck, RedirectLoop) {
  TinyServer server(Answer(Response(301, "", "Location: /again\r\n")));
  EXPECT_EQ(Run(Http(server.Url())).message, "more than 10 redirects");
  EXPECT_EQ(server.connections(), 11) << "each hop on a fresh connection";
}

TEST_F(HttpCheck, RedirectToAnotherProtocolIsRefused) {
  for (const char* target : {"file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:70/"}) {
    TinyServer server(Answer(Response(302, "", fmt::format("Location: {}\r\n", target))));
    EXPECT_THAT(Run(Http(server.Url())).message,
                MatchesRegex("HTTP 302 redirects to an URL of scheme \"[a-z]+\" refused .*"));
  }
}

TEST_F(HttpCheck, WhatAServerSaysDoesNotSwellTheMessage) {
  const std::string endless(100'000, 'a');
  for (const std::string& target : {"http://" + endless + ".test/", "http://[" + endless + "]/", endless + ":",
                                    "http://a.test:" + endless + "/", "//" + endless}) {
    TinyServer server(Answer(Response(302, "", fmt::format("Location: {}\r\n", target))));
    const CheckResult result = Run(Http(server.Url()));
    EXPECT_FALSE(result.success);
    EXPECT_LT(result.message.size(), 1000u) << result.message.substr(0, 100);
  }
}

TEST_F(HttpCheck, CredentialsStayWithTheirOrigin) {
  std::mutex mutex;
  std::string request;
  TinyServer other([&](const TinyServer::Peer& peer) {
    const std::string read = peer.ReadRequest();
    {
      const std::lock_guard lock(mutex);
      request = read;
    }
    peer.Send(Response(200, ""));
  });
  TinyServer server(Answer(Response(307, "", fmt::format("Location: {}\r\n", other.Url("/x")))));
  HealthCheckConfig config = Http(server.Url());
  config.headers = {{"authorization", "Bearer canary"}, {"Cookie", "canary"}, {"X-Plain", "stays"}};
  ASSERT_TRUE(Run(config).success);
  const std::lock_guard lock(mutex);
  EXPECT_THAT(request, HasSubstr("X-Plain: stays"));
  EXPECT_THAT(request, Not(HasSubstr("canary")));
}

TEST_F(HttpCheck, UnixSocket) {
  TempDirectory directory;
  const std::string path = directory.path() + "/http.sock";
  HealthCheckConfig config = Http("http://app.test/health");
  config.unix_socket = path;
  EXPECT_EQ(Run(config).message, fmt::format("no such file or directory ({})", path));
  TinyServer server(Answer(Response(200, "fine")), TinyServer::Kind::kUnix, path);
  ASSERT_TRUE(server.listens());
  EXPECT_TRUE(Run(config).success) << Run(config).message;
  config.unix_socket = "/" + std::string(200, 'x');
  EXPECT_THAT(Run(config).message, HasSubstr("is longer than the 107 bytes"));
}

TEST_F(HttpCheck, ACompressedBodyIsUnderstood) {
  TinyServer server(Answer(Response(200, Gzip("all is well\n"), "content-encoding: gzip\r\n")));
  HealthCheckConfig config = Http(server.Url());
  EXPECT_TRUE(Run(config).success);
  config.expected_content = "is well";
  EXPECT_TRUE(Run(config).success) << Run(config).message;
  config.expected_regex = "^all is well\n$";
  EXPECT_TRUE(Run(config).success) << Run(config).message;
  config.expected_content = "ill";
  EXPECT_THAT(Run(config).message, StartsWith("body lacks \"ill\""));
  TinyServer brotli(Answer(Response(200, "x", "Content-Encoding: br\r\n")));
  config.url = brotli.Url();
  EXPECT_EQ(Run(config).message,
            "the body's Content-Encoding \"br\" is not understood (gzip and deflate are) (HTTP 200)");
  const std::string whole = Gzip("all is");
  TinyServer cut(Answer(Response(200, whole.substr(0, whole.size() - 2), "Content-Encoding: gzip\r\n")));
  config.url = cut.Url();
  EXPECT_EQ(Run(config).message, "the body ends in the midst of its gzip data (HTTP 200)");
}

TEST_F(HttpCheck, ABombIsReadNoFurtherThanOtherBodies) {
  TinyServer server(Answer(Response(200, Gzip(std::string(64 << 20, 'x')), "Content-Encoding: gzip\r\n")));
  HealthCheckConfig config = Http(server.Url());
  EXPECT_TRUE(Run(config).success);
  config.expected_content = "never";
  EXPECT_EQ(Run(config).message, "body lacks \"never\" within its first 1048576 bytes (HTTP 200)");
  config.expected_content = "xxxxxxxxxxxxxxxx";
  EXPECT_TRUE(Run(config).success);
}

TEST_F(HttpCheck, Ipv6) {
  TinyServer server(Answer(Response(200, "fine")), TinyServer::Kind::kIpv6);
  if (!server.listens()) {
    GTEST_SKIP() << "no IPv6 loopback here";
  }
  EXPECT_TRUE(Run(Http(server.Url())).success) << Run(Http(server.Url())).message;
  EXPECT_TRUE(Run(Http(fmt::format("http://localhost:{}/", server.port()))).success);
}

TEST_F(HttpCheck, InvalidUrls) {
  for (const char* url : {"", "nonsense with spaces", "file:///etc/passwd", "http://", "ftp://127.0.0.1/"}) {
    const CheckResult result = Run(Http(url));
    EXPECT_FALSE(result.success);
    EXPECT_THAT(result.message, HasSubstr("URL")) << url;
  }
}

TEST_F(HttpCheck, UnresolvableName) {
  EXPECT_THAT(Run(Http("http://no-such-host.invalid/")).message, StartsWith("cannot resolve no-such-host.invalid: "));
}

TEST_F(HttpCheck, NamesGoThroughTheLookup) {
  Checker::Options options;
  options.lookup = [](const std::string& host) -> absl::StatusOr<AddressList> {
    EXPECT_EQ(host, "app.test");
    return *AddressesWithoutLookup("127.0.0.1");
  };
  Checker checker(options);
  TinyServer server(Answer(Response(200, "fine")));
  const HealthCheckConfig config = Http(fmt::format("http://app.test:{}/", server.port()));
  for (int i = 0; i < 3; ++i) {
    const CheckResult result = RunCheck(checker, config);
    EXPECT_TRUE(result.success) << result.message;
  }
}

TEST_F(HttpCheck, TlsToAPlainServer) {
  TinyServer server([](const TinyServer::Peer& peer) { peer.Send("this is not TLS\r\n\r\n"); });
  const CheckResult result = Run(Http(fmt::format("https://127.0.0.1:{}/", server.port())));
  EXPECT_FALSE(result.success);
  EXPECT_THAT(result.message, HasSubstr("127.0.0.1"));
}

std::set<int> InheritableDescriptors() {
  constexpr int kMostDescriptors = 1024;
  std::set<int> inheritable;
  for (int fd = 0; fd < kMostDescriptors; ++fd) {
    if (const int flags = fcntl(fd, F_GETFD); flags >= 0 && (flags & FD_CLOEXEC) == 0) {
      inheritable.insert(fd);
    }
  }
  return inheritable;
}

TEST_F(HttpCheck, LeavesNoDescriptorToChildren) {
  const std::set<int> before = InheritableDescriptors();
  TinyServer server([](const TinyServer::Peer& peer) { peer.WaitUntilClosed(); });
  Results results;
  Checker checker;
  checker.Start(Http(server.Url()), {}, results.Collect());
  while (server.connections() == 0) {
    usleep(1000);
  }
  EXPECT_EQ(InheritableDescriptors(), before);
}

}  // namespace
}  // namespace supervisor
