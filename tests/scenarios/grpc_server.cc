// A real gRPC server with the library's own health service, for the scenarios of checks:
//
//   grpc_server [UNIX_SOCKET]     prints its port of 127.0.0.1, then does what the lines on its input say:
//     serving NAME, not_serving NAME       (an empty name is the server as a whole)
//     shutdown                             all services stop serving, as at the end of a server that ends gracefully
// and answers each with "ok". Ends with its input.

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <iostream>
#include <memory>
#include <string>

int main(int argc, char** argv) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::CallbackGenericService nothing_else;  // and a server wants some service
  grpc::ServerBuilder builder;
  builder.RegisterCallbackGenericService(&nothing_else);
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  if (argc > 1) {
    builder.AddListeningPort(std::string("unix:") + argv[1], grpc::InsecureServerCredentials());
  }
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    std::cerr << "the server does not start\n";
    return 1;
  }
  grpc::HealthCheckServiceInterface* health = server->GetHealthCheckService();
  std::cout << port << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    const size_t space = line.find(' ');
    const std::string name = space == std::string::npos ? "" : line.substr(space + 1);
    if (line.starts_with("shutdown")) {
      health->Shutdown();
    } else {
      health->SetServingStatus(name, line.starts_with("serving"));
    }
    std::cout << "ok" << std::endl;
  }
  server->Shutdown();
  return 0;
}
