#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <string_view>

// A daemon as far as the guardian can tell: `fake_daemon SCRIPT RUNS NOTE` becomes a shell, which ends with its
// guardian and finds in $run the how manieth it is (RUNS: the file that counts them), in $note what the guardian notes.
// SIGTERM is blocked until the script waits for a child of its own, which in dash(1) ends that. `exec "$FAKE"
// await-stop` waits for one, writes TERM to descriptor 8 and exits 0.
int main(int argc, char** argv) {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  pthread_sigmask(SIG_SETMASK, &stop, nullptr);
  if (argc == 2 && std::string_view(argv[1]) == "await-stop") {
    int signal = 0;
    return sigwait(&stop, &signal) == 0 && write(8, "TERM\n", 5) == 5 ? 0 : 1;
  }
  if (argc != 4) {
    return 1;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int runs = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  struct stat info {};
  if (write(runs, "x", 1) != 1 || fstat(runs, &info) != 0) {
    return 1;
  }
  setenv("run", std::to_string(info.st_size).c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread
  setenv("note", argv[3], 1);                              // NOLINT(concurrency-mt-unsafe)
  setenv("FAKE", FAKE_DAEMON, 1);                          // NOLINT(concurrency-mt-unsafe)
  return execl("/bin/sh", "sh", "-c", argv[1], nullptr);
}
