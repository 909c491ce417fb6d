#include "daemon/rpc/grpc_health_client.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <memory>
#include <string>
#include <thread>

#include "tests/daemon/health/check_runner.h"
#include "tests/daemon/health/tiny_server.h"

namespace supervisor {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// A real gRPC server with the library's own health service.
class Server {
 public:
  Server() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.RegisterCallbackGenericService(&nothing_else_);  // a server wants some service
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    server_ = builder.BuildAndStart();
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { server_->Shutdown(); }

  uint16_t port() const { return static_cast<uint16_t>(port_); }
  void Set(const std::string& service, bool serving) {
    server_->GetHealthCheckService()->SetServingStatus(service, serving);
  }

 private:
  grpc::CallbackGenericService nothing_else_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

HealthCheckConfig Ask(uint16_t port, const std::string& service = "") {
  HealthCheckConfig config;
  config.type = HealthCheckType::kGrpc;
  config.port = port;
  config.service = service;
  config.timeout = absl::Seconds(30);
  return config;
}

TEST(GrpcHealthClient, AsksTheServerAndItsServices) {
  Server server;
  const std::unique_ptr<Checker> checker = MakeChecker();
  const CheckResult whole = RunCheck(*checker, Ask(server.port()));
  EXPECT_TRUE(whole.success);
  EXPECT_THAT(whole.message, StartsWith("SERVING in "));
  const CheckResult unknown = RunCheck(*checker, Ask(server.port(), "orders"));
  EXPECT_FALSE(unknown.success);
  EXPECT_THAT(unknown.message, HasSubstr("\"orders\" (NOT_FOUND)"));
  server.Set("orders", true);
  EXPECT_TRUE(RunCheck(*checker, Ask(server.port(), "orders")).success);
  server.Set("orders", false);
  EXPECT_EQ(RunCheck(*checker, Ask(server.port(), "orders")).message, "NOT_SERVING");
}

TEST(GrpcHealthClient, NobodyThere) {
  const RefusedPort refused;
  const std::unique_ptr<Checker> checker = MakeChecker();
  const CheckResult result = RunCheck(*checker, Ask(refused.port()));
  EXPECT_FALSE(result.success);
  EXPECT_THAT(result.message, StartsWith("connection refused (ipv4:127.0.0.1:"));
}

TEST(GrpcHealthClient, NoGrpcServer) {
  const TinyServer web(Answer(Response(200, "a web page")));
  const std::unique_ptr<Checker> checker = MakeChecker();
  EXPECT_FALSE(RunCheck(*checker, Ask(web.port())).success);
}

// Each with a connection of its own, which ends while its server still makes it wait: what is behind a channel goes
// when nobody but gRPC's own threads holds it any more.
TEST(GrpcHealthClient, ManyThatHangEndAtTheirTimeout) {
  constexpr int kChecks = 60;
  const TinyServer silent([](const TinyServer::Peer& peer) { peer.WaitUntilClosed(); });
  Server server;
  Results results;
  const std::unique_ptr<Checker> checker = MakeChecker();
  HealthCheckConfig hung = Ask(silent.port());
  for (int i = 0; i < kChecks; ++i) {
    hung.timeout = absl::Milliseconds(20 + 5 * i);
    checker->Start(hung, {}, results.Collect(i));
  }
  EXPECT_TRUE(RunCheck(*checker, Ask(server.port())).success);
  ASSERT_EQ(results.AwaitCount(kChecks), static_cast<size_t>(kChecks));
  for (int i = 0; i < kChecks; ++i) {
    EXPECT_TRUE(results.Await(i).timed_out) << results.Await(i).message;
  }
}

TEST(GrpcHealthClient, GoesWithChecksUnderWay) {
  const TinyServer silent([](const TinyServer::Peer& peer) { peer.WaitUntilClosed(); });
  for (int round = 0; round < 20; ++round) {
    Results results;
    const int before = silent.connections();
    const std::unique_ptr<Checker> checker = MakeChecker();
    checker->Start(Ask(silent.port()), {}, results.Collect());
    while (round % 2 == 1 && silent.connections() == before) {
      std::this_thread::yield();
    }
    // Its destructor, with the request anywhere between begun and connected.
  }
}

}  // namespace
}  // namespace supervisor
