#pragma once

namespace supervisor {

// `supervisorctl check`, which hands over to supervisord: one health check now, by the daemon's own code, without a
// daemon. The options are the keys of health_check and follow the same rules, since they are read by the same code.
//
// `argv` begins with the program's name, then what stood behind `check`. Prints the result; ends with the exit codes of
// supervisorctl: 0 healthy, 1 failed, 2 usage, 3 unhealthy, 7 timed out. A signal that ends it ends a script under way
// with all that it has started.
int RunCheckCommand(int argc, char** argv);

}  // namespace supervisor
