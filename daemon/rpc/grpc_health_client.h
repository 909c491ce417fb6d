#pragma once

#include <memory>

#include "daemon/health/checker.h"

namespace supervisor {

// Asks servers for their health by gRPC's standard protocol, grpc.health.v1.Health/Check, without TLS:
// https://github.com/grpc/grpc/blob/master/doc/health-checking.md. Each check makes a connection of its own, as its
// clients do, and takes no proxy from the environment. Never blocks; answers come on a thread of its own.
Checker::GrpcProbe GrpcHealthClient();

// A checker for all types of checks.
std::unique_ptr<Checker> MakeChecker(Checker::Options options = {});

}  // namespace supervisor
