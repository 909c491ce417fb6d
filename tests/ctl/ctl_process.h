#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/unique_fd.h"

namespace supervisor {

struct CtlResult {
  int exit_code = -1;  // -1: a signal ended it
  int exit_signal = 0;
  std::string out;
  std::string err;
};

// One running supervisorctl with its stdout and stderr in pipes. The destructor kills what still runs.
class CtlProcess {
 public:
  // `environment`: "NAME=value", in place of the test's own. `launcher` goes before the program.
  explicit CtlProcess(const std::vector<std::string>& arguments, const std::vector<std::string>& environment = {},
                      const std::vector<std::string>& launcher = {});
  CtlProcess(const CtlProcess&) = delete;
  CtlProcess& operator=(const CtlProcess&) = delete;
  ~CtlProcess();

  // The next line of stdout, without its newline; fails the test when none comes.
  std::string ReadLine();
  void Signal(int signal) const;
  // Closes our end of its stdout.
  void CloseStdout();
  // Waits for its end; everything that was not read by ReadLine is in the result.
  CtlResult Wait();

 private:
  // Waits for output of either; false when both have ended.
  bool Pump();

  pid_t pid_ = -1;
  UniqueFd out_;
  UniqueFd err_;
  std::string out_text_;
  std::string err_text_;
};

CtlResult RunCtl(const std::vector<std::string>& arguments, const std::vector<std::string>& environment = {});

// A directory of the test's own, removed at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace supervisor
