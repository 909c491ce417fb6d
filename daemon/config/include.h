#pragma once

#include <string>
#include <vector>

#include "daemon/config/config_source.h"
#include "daemon/config/object_reader.h"

namespace supervisor {

struct IncludedFile {
  std::string path;   // absolute
  PlacedText origin;  // the pattern that named it
};

// The files that "global.include" of `main` names: glob(3) patterns, relative to its directory, each file once and the
// main file never, sorted by name. A pattern may match nothing; a plain name must exist. Reads directories only.
std::vector<IncludedFile> FindIncludedFiles(const std::vector<PlacedText>& patterns, const ConfigSource& main,
                                            ErrorList& errors);

}  // namespace supervisor
