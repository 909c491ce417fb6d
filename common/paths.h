#pragma once

#include <string>

namespace supervisor {

// Where things are unless the configuration or the command line says otherwise. For root the directories of the
// FHS; for another user those of the XDG Base Directory specification, with its usual fall-backs
// ($XDG_RUNTIME_DIR unset: /tmp/supervisord-UID).
struct DefaultPaths {
  std::string config_file;    // .../supervisor_config.json
  std::string socket;         // .../supervisord.sock
  std::string database;       // .../supervisor.db
  std::string log_directory;  // of the daemon's own log
};
DefaultPaths GetDefaultPaths();

// What belongs to one daemon lies beside its socket, so two daemons with two sockets never share any of it.
// "/run/supervisord/supervisord.sock" gives "/run/supervisord/supervisord.pid" and so on.
struct RuntimePaths {
  std::string socket;
  std::string pid_file;         // the pid to signal: the guardian, or the daemon where there is none
  std::string lock_file;        // held (flock) by guardian and daemon while either lives
  std::string state_directory;  // FIFOs and records of running services
  std::string births;           // in there: see daemon/process/birth_journal.h
  std::string applied_config;   // in there: the configuration in force, for the next daemon
};
RuntimePaths GetRuntimePaths(const std::string& socket);

}  // namespace supervisor
