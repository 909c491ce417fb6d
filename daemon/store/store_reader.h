#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/store/queries.h"
#include "daemon/store/sqlite.h"
#include "daemon/store/store_state.h"

namespace supervisor {

// Answers queries on a thread and a read-only connection of its own. In WAL mode neither holds up the writer.
class StoreReader {
 public:
  StoreReader(std::shared_ptr<StoreState> state, std::shared_ptr<CallGate> gate);

  // The thread: returns when the store stops. What still waits is answered with kCancelled.
  void Run();

  // The writer thread: closes the connection, since the file at our path is another one or goes. A query under way ends
  // first; no other begins while the result is held. REQUIRES: the state's mutex is not held.
  [[nodiscard]] std::unique_lock<std::mutex> Disconnect();

 private:
  struct Connection {
    SqliteDatabase db;
    RowReader rows;
  };
  void Answer(const WaitingQuery& query);
  bool IsReady(const WaitingQuery& query) const;  // under the state's mutex
  bool IsBeingOpened() const;
  absl::Status Connect();
  QueryAnswer Read(const WaitingQuery& query);
  bool WaitMore(int count);

  std::shared_ptr<StoreState> state_;
  std::shared_ptr<CallGate> gate_;
  std::mutex connection_mutex_;
  std::optional<Connection> connection_;  // under connection_mutex_
  MonoTime lock_wait_began_;
};

}  // namespace supervisor
