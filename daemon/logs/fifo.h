#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace supervisor {

// The FIFO of one stream. Both ends stay open here for the stream's whole life, so that neither a service that closes
// its stdout nor one that has not started yet shows up as an end of file.
//
// What waits in a FIFO lives as long as any process has it open: the service, or we.
class Fifo {
 public:
  struct Access {
    uid_t uid;
    gid_t gid;
    mode_t mode;
  };
  // Makes it, or takes what an earlier daemon left, with the bytes in it.
  // A process that is not root leaves the owner as it is. Fails with path and reason.
  static absl::StatusOr<Fifo> Open(const std::string& path, const Access& access);

  // The like with one that has lost its name; `fd`, borrowed, is of either end.
  static absl::StatusOr<Fifo> Reopen(const std::string& path, int fd, const Access& access);

  int read_end() const { return read_end_.get(); }  // non-blocking
  const std::string& path() const { return path_; }

  // A write end for the service: opened read-write, blocking, and an open file description of its own, since a
  // service may set O_NONBLOCK on its stdout and the next one must not inherit that.
  absl::StatusOr<UniqueFd> NewWriteEnd() const;

  absl::Status SetAccess(const Access& access) const;
  size_t WaitingBytes() const;
  size_t Capacity() const;
  // Asks for another capacity, for less of it when the kernel gives no more (per-user limits), and returns what it is.
  size_t Resize(size_t bytes) const;

  // Removes the name, if it is still this FIFO's.
  void Remove() const;

 private:
  Fifo() = default;

  std::string path_;
  UniqueFd read_end_;
  UniqueFd write_end_;
};

}  // namespace supervisor
