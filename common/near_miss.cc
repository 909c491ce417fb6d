#include "common/near_miss.h"

#include <algorithm>
#include <cctype>
#include <cstddef>

namespace supervisor {
namespace {

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return out;
}

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_last(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) {
    last[j] = j;
  }
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitution = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, substitution});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::vector<std::string> NearMisses(std::string_view name, const std::vector<std::string>& candidates, size_t most) {
  struct Scored {
    size_t distance;
    std::string candidate;
  };
  constexpr size_t kLongestName = 256;  // the distance is quadratic; nothing longer is a name
  std::vector<Scored> scored;
  const std::string wanted = Lower(name.substr(0, kLongestName));
  const size_t limit = std::max<size_t>(1, wanted.size() / 3);
  for (const std::string& candidate : candidates) {
    const std::string other = Lower(std::string_view(candidate).substr(0, kLongestName));
    const bool is_prefix = wanted.size() >= 2 && (other.starts_with(wanted) || wanted.starts_with(other));
    const size_t distance = EditDistance(wanted, other);
    if (distance <= limit || (is_prefix && !other.empty())) {
      scored.push_back({is_prefix ? std::min<size_t>(distance, limit) : distance, candidate});
    }
  }
  std::stable_sort(scored.begin(), scored.end(),
                   [](const Scored& a, const Scored& b) { return a.distance < b.distance; });
  std::vector<std::string> out;
  for (const Scored& entry : scored) {
    if (out.size() == most) {
      break;
    }
    out.push_back(entry.candidate);
  }
  return out;
}

}  // namespace supervisor
