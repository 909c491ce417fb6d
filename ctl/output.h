#pragma once

#include <string>
#include <string_view>

#include "ctl/exit_code.h"
#include "ctl/failure.h"

namespace supervisor {

// True iff $TERM says that the terminal knows no control sequences ("dumb"), or says nothing.
bool IsDumbTerminal();

// Results to stdout, messages to stderr. stdout is buffered here and written with write(2): iostream and stdio cost
// start-up time and hide errors. A reader that goes away (`| head`) silences stdout and is no error: the exit code
// still says what the command found out. One thread.
class Output {
 public:
  // `no_color`: --no-color was given; $NO_COLOR, a $TERM without colour and stdout being no terminal count as well.
  Output(bool json, bool no_color);

  bool json() const { return json_; }
  bool color() const { return color_; }
  static bool IsTerminal();
  // The terminal's columns as they are now; 0 where stdout is no terminal, or does not know.
  static size_t width();
  // stdout's reader is gone: a stream may end.
  bool closed() const { return closed_; }

  void Print(std::string_view text);
  // One JSON object and its newline.
  void PrintJson(std::string_view object);
  void Flush();
  // "supervisorctl: TEXT" on stderr, after what was printed so far.
  void Message(std::string_view text);
  // A line on stderr as it is.
  void Line(std::string_view text);
  // The failure as a message and, with --json, as an error object. Returns its exit code.
  ExitCode Fail(const Failure& failure);
  // As Fail, for a stream, whose output is lines that are no error objects.
  ExitCode FailStream(const Failure& failure);

  // Everything is written and the process ends at once, without running destructors: taking gRPC down in good order
  // costs more than a whole call. A full disk under stdout or stderr turns success into kFailed.
  [[noreturn]] void Exit(ExitCode code);

  // Ends the process when stdout's reader goes away while nothing is being written, as with `logs -f | head -1` on a
  // quiet service. For streams; starts a thread.
  void WatchReader();

 private:
  bool json_;
  bool color_;
  bool closed_ = false;
  int write_error_ = 0;
  std::string buffer_;
};

}  // namespace supervisor
