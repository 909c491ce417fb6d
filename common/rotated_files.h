#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/file_id.h"
#include "common/rotation_ledger.h"

namespace supervisor {

// The numbered files beside a log: "web.log.1" is the newest, each perhaps compressed ("web.log.3.gz"). All work
// below an open directory and on names without a slash, so that no planted symbolic link is followed.
//
// Files are renamed from the oldest to the newest, each with one rename(2): a process that dies half-way leaves a
// hole in the numbers and loses no file, and the next rotation fills the hole. A reader relies on that order.

std::string RotatedName(const std::string& base, int index);      // "web.log.3"; 0: "web.log"
std::string RotatedGzipName(const std::string& base, int index);  // "web.log.3.gz"
std::string CompressionTempName(const std::string& base);         // "web.log.gz.tmp"

// Frees the name `base`: the present file becomes number 1 and the others move up to the first free number. Of the
// files that own rotation made, by the ledger, the one that would exceed `max_files` goes; another program's files move
// up and stay. `max_files` 0: the present file goes. Fails naming the file.
absl::Status ShiftRotatedFiles(int dir_fd, const std::string& dir_path, const std::string& base, int max_files,
                               RotationLedger& ledger);

// Removes what a larger `max_files` of old has left of own rotation's files, and returns the names. What cannot be
// removed stays, and so does what another program made.
std::vector<std::string> PruneRotatedFiles(int dir_fd, const std::string& base, int max_files,
                                           const RotationLedger& ledger);

// The number under which `id` is found now, uncompressed; 0 where it is not.
int FindRotated(int dir_fd, const std::string& base, int max_files, const FileId& id);

}  // namespace supervisor
