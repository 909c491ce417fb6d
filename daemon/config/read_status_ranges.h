#pragma once

#include <string_view>
#include <vector>

#include "daemon/config/config.h"
#include "daemon/config/object_reader.h"

namespace supervisor {

// A list of HTTP statuses, numbers and ranges such as "2xx" side by side. What is wrong goes to the reader's errors.
void ReadStatusRanges(ObjectReader& reader, std::string_view key, std::vector<StatusRange>* out);

}  // namespace supervisor
