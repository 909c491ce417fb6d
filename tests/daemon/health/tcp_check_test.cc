#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/health/checker.h"
#include "daemon/health/resolver.h"
#include "tests/daemon/health/check_runner.h"
#include "tests/daemon/health/tiny_server.h"

namespace supervisor {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

HealthCheckConfig Tcp(uint16_t port, const std::string& host = "127.0.0.1") {
  HealthCheckConfig config;
  config.type = HealthCheckType::kTcp;
  config.host = host;
  config.port = port;
  config.timeout = absl::Seconds(10);
  return config;
}

class TcpCheck : public testing::Test {
 protected:
  CheckResult Run(const HealthCheckConfig& config) { return RunCheck(checker_, config); }
  Checker checker_;
};

TEST_F(TcpCheck, Connects) {
  TinyServer server([](const TinyServer::Peer& peer) { peer.WaitUntilClosed(); });
  const CheckResult result = Run(Tcp(server.port()));
  EXPECT_TRUE(result.success) << result.message;
  EXPECT_THAT(result.message, StartsWith(fmt::format("connected to 127.0.0.1:{} in ", server.port())));
}

TEST_F(TcpCheck, Refused) {
  RefusedPort refused;
  EXPECT_EQ(Run(Tcp(refused.port())).message, fmt::format("connection refused (127.0.0.1:{})", refused.port()));
}

TEST_F(TcpCheck, Ipv6AndTheSecondAddress) {
  TinyServer server([](const TinyServer::Peer& peer) { peer.WaitUntilClosed(); }, TinyServer::Kind::kIpv6);
  if (!server.listens()) {
    GTEST_SKIP() << "no IPv6 loopback here";
  }
  EXPECT_TRUE(Run(Tcp(server.port(), "::1")).success);
  EXPECT_TRUE(Run(Tcp(server.port(), "[::1]")).success);
  EXPECT_TRUE(Run(Tcp(server.port(), "localhost")).success) << "127.0.0.1 refuses, ::1 does not";
}

TEST_F(TcpCheck, Banner) {
  TinyServer server([](const TinyServer::Peer& peer) {
    peer.Send("SSH-2");
    peer.Pause(20);
    peer.Send(".0-x\r\n");
    peer.WaitUntilClosed();
  });
  HealthCheckConfig config = Tcp(server.port());
  config.expected_content = "SSH-2.0-";
  EXPECT_TRUE(Run(config).success) << Run(config).message;
  config.expected_regex = "^SSH-[0-9]\\.[0-9]-x\r\n";
  EXPECT_TRUE(Run(config).success) << Run(config).message;
}

TEST_F(TcpCheck, WrongBanner) {
  TinyServer server([](const TinyServer::Peer& peer) {
    peer.Send("220 mail\r\n");
    peer.WaitUntilClosed();
  });
  HealthCheckConfig config = Tcp(server.port());
  config.expected_content = "SSH";
  config.timeout = absl::Seconds(2);  // enough for the banner to have come
  EXPECT_EQ(Run(config).message, "timed out after 2.0 s (banner lacks \"SSH\"; got \"220 mail\")");
}

TEST_F(TcpCheck, ClosesInsteadOfABanner) {
  TinyServer server([](const TinyServer::Peer& /*peer*/) {});
  HealthCheckConfig config = Tcp(server.port());
  config.expected_content = "SSH";
  EXPECT_EQ(Run(config).message,
            fmt::format("127.0.0.1:{} closed the connection: banner lacks \"SSH\"; got \"\"", server.port()));
}

TEST_F(TcpCheck, EndlessBanner) {
  TinyServer server([](const TinyServer::Peer& peer) {
    while (peer.Send(std::string(1000, 'x'))) {
    }
  });
  HealthCheckConfig config = Tcp(server.port());
  config.expected_content = "SSH";
  EXPECT_THAT(Run(config).message, StartsWith("banner lacks \"SSH\" within its first 4096 bytes"));
}

TEST_F(TcpCheck, BadExpression) {
  HealthCheckConfig config = Tcp(1);
  config.expected_regex = "[";
  EXPECT_THAT(Run(config).message, StartsWith("expected_regex \"[\""));
}

TEST_F(TcpCheck, UnresolvableName) {
  EXPECT_THAT(Run(Tcp(80, "no-such-host.invalid")).message, StartsWith("cannot resolve no-such-host.invalid: "));
}

TEST_F(TcpCheck, NameWithoutAddresses) {
  Checker::Options options;
  options.lookup = [](const std::string& /*host*/) { return AddressList{}; };
  Checker checker(options);
  EXPECT_EQ(RunCheck(checker, Tcp(80, "empty.test")).message, "cannot resolve empty.test: it has no address");
}

// An address that swallows what is sent to it must not use up the time of one that works.
TEST_F(TcpCheck, AHangingAddressGivesWay) {
  TinyServer server([](const TinyServer::Peer& peer) { peer.WaitUntilClosed(); }, TinyServer::Kind::kIpv6);
  if (!server.listens()) {
    GTEST_SKIP() << "no IPv6 loopback here";
  }
  // A listener whose queue is full: its kernel drops what comes.
  const UniqueFd full(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(server.port());
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(full.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(full.get(), 0) != 0) {
    GTEST_SKIP() << "the port is taken on 127.0.0.1";
  }
  std::vector<UniqueFd> fillers;
  for (int i = 0; i < 4; ++i) {
    fillers.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    static_cast<void>(connect(fillers.back().get(), reinterpret_cast<const sockaddr*>(&address), sizeof address));
  }
  const CheckResult result = Run(Tcp(server.port(), "localhost"));
  EXPECT_TRUE(result.success) << result.message;
  EXPECT_LT(result.response_time_ms, 5000);

  HealthCheckConfig config = Tcp(server.port());
  config.timeout = absl::Milliseconds(300);
  EXPECT_EQ(Run(config).message, fmt::format("timed out after 300 ms (connecting to 127.0.0.1:{})", server.port()));
}

}  // namespace
}  // namespace supervisor
