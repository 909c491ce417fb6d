#pragma once

#include <sys/types.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "common/unique_fd.h"

namespace supervisor {

// Descriptors that stay open while no daemon lives: a service's FIFO, whose bytes would go with its last reader and
// writer, and its notify socket, which would refuse what is said meanwhile. They lie, by SCM_RIGHTS (unix(7)), in the
// queue of a socket pair that the guardian has made and every daemon inherits; nobody has to read them there to keep
// them, so the guardian does nothing for it. A daemon looks at them in place (MSG_PEEK, SO_PEEK_OFF).
//
// Any thread.
class HeldDescriptors {
 public:
  // The two ends, for the guardian to make: {for sending, for receiving}, open over exec. Invalid on failure.
  static std::pair<int, int> MakePair();

  // `send_fd`, `receive_fd`: borrowed; -1 where nobody holds anything. Reads what is there.
  HeldDescriptors(int send_fd, int receive_fd);
  ~HeldDescriptors() = default;
  HeldDescriptors(const HeldDescriptors&) = delete;
  HeldDescriptors& operator=(const HeldDescriptors&) = delete;

  // Holds `fd` (borrowed: a duplicate is what is held) under that name, in place of an other file of that name. Costs
  // nothing where it is held already. ResourceExhausted where the kernel takes no more (an ordinary user's limits).
  absl::Status Keep(const std::string& name, int fd);
  void Forget(const std::string& name);
  // What an earlier daemon has held of that name, a socket; once. Invalid where there is none.
  UniqueFd TakeSocket(const std::string& name) { return Take(name); }
  // The like for a file: a lock (flock(2)) lasts as long as it lies here.
  UniqueFd TakeFile(const std::string& name) { return Take(name); }
  // A FIFO that has lost its name, and that a service still writes to: for who opens that name next.
  void PutNamelessFifo(const std::string& name, UniqueFd fd);
  UniqueFd TakeNamelessFifo(const std::string& name) { return Take(name); }

 private:
  struct FileKey {
    dev_t device = 0;
    ino_t inode = 0;
    bool operator==(const FileKey&) const = default;
  };
  struct Message {
    std::string name;
    UniqueFd fd;
  };
  static FileKey KeyOf(int fd);
  void Load();
  UniqueFd Take(const std::string& name);
  bool Receive(int flags, Message& message) const;
  absl::Status Send(const std::string& name, int fd);
  void Compact();

  std::mutex mutex_;
  const int send_fd_;
  const int receive_fd_;
  std::map<std::string, FileKey> kept_;
  std::map<std::string, UniqueFd> to_take_;  // what was there and has no name to be opened by
  size_t messages_ = 0;                      // in the queue, those of no use any more included
};

}  // namespace supervisor
