// A process that captures one stream until it is killed. Arguments: FIFO, log file, maximum size, "compress" or "".
// Writes a byte to stdout once it captures.

#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>

#include "daemon/logs/log_pump.h"

int main(int argc, char** argv) {
  constexpr int kArguments = 5;
  if (argc != kArguments) {
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  supervisor::LogStreamOptions options;
  options.fifo_path = argv[1];
  options.file_path = argv[2];
  options.max_size_bytes = std::stoull(argv[3]);
  options.max_files = 100'000;
  options.compress = std::string(argv[4]) == "compress";
  options.fifo_uid = getuid();
  options.fifo_gid = getgid();
  supervisor::LogPump pump(nullptr);
  const auto opened = pump.Open("stream", options);
  if (!opened.ok()) {
    std::fprintf(stderr, "%s\n", opened.status().ToString().c_str());
    return 1;
  }
  if (write(STDOUT_FILENO, "x", 1) != 1) {
    return 1;
  }
  for (;;) {
    pause();
  }
}
