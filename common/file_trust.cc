#include "common/file_trust.h"

#include <atomic>

namespace supervisor {
namespace {

std::atomic<FileTrust> process_trust{FileTrust::kStrict};

}  // namespace

void SetProcessFileTrust(FileTrust trust) { process_trust = trust; }
FileTrust ProcessFileTrust() { return process_trust; }

}  // namespace supervisor
