#pragma once

namespace supervisor {

// Which files the daemon obeys: supervisord --trust-files. See common/trusted_path.h.
enum class FileTrust {
  kStrict,  // those that only trusted users can have written and can exchange
  kAny,     // all, opened as open(2) does
};

// What this process's command line says, like its umask: set once, before there is another thread. kStrict until then.
void SetProcessFileTrust(FileTrust trust);
FileTrust ProcessFileTrust();

}  // namespace supervisor
