#include "daemon/notify/channel_succession.h"

#include <utility>

#include "daemon/notify/message.h"

namespace supervisor {
namespace {

// Pairs of those that are left on both sides.
class Matching {
 public:
  Matching(size_t before, size_t after) : successors_(before), taken_(after) {}

  // The first that fits.
  template <typename Fits>
  void Pair(const Fits& fits) {
    for (size_t i = 0; i < successors_.size(); ++i) {
      for (size_t j = 0; j < taken_.size() && !successors_[i]; ++j) {
        if (!taken_[j] && fits(i, j)) {
          Take(i, j);
        }
      }
    }
  }

  // Where on both sides one is left of the type, and no other.
  void PairLonely(ChannelType type, const std::vector<ChannelConfig>& before, const std::vector<ChannelConfig>& after) {
    std::vector<size_t> gone;
    for (size_t i = 0; i < before.size(); ++i) {
      if (!successors_[i] && before[i].type == type) {
        gone.push_back(i);
      }
    }
    std::vector<size_t> come;
    for (size_t j = 0; j < after.size(); ++j) {
      if (!taken_[j] && after[j].type == type) {
        come.push_back(j);
      }
    }
    if (gone.size() == 1 && come.size() == 1) {
      Take(gone.front(), come.front());
    }
  }

  std::vector<std::optional<size_t>> successors() && { return std::move(successors_); }

 private:
  void Take(size_t i, size_t j) {
    successors_[i] = j;
    taken_[j] = true;
  }

  std::vector<std::optional<size_t>> successors_;
  std::vector<bool> taken_;
};

}  // namespace

std::vector<std::optional<size_t>> ChannelSuccessors(const std::vector<ChannelConfig>& before,
                                                     const std::vector<ChannelConfig>& after) {
  const std::vector<std::string> old_labels = ChannelLabels(before);
  const std::vector<std::string> new_labels = ChannelLabels(after);
  Matching matching(before.size(), after.size());
  matching.Pair([&](size_t i, size_t j) { return before[i] == after[j]; });
  matching.Pair([&](size_t i, size_t j) { return old_labels[i] == new_labels[j]; });
  for (const ChannelType type :
       {ChannelType::kWebhook, ChannelType::kSlack, ChannelType::kEmail, ChannelType::kCommand}) {
    matching.PairLonely(type, before, after);
  }
  return std::move(matching).successors();
}

std::map<std::string, std::string> SuccessorLabels(const std::vector<ChannelConfig>& before,
                                                   const std::vector<ChannelConfig>& after) {
  const std::vector<std::string> old_labels = ChannelLabels(before);
  const std::vector<std::string> new_labels = ChannelLabels(after);
  const std::vector<std::optional<size_t>> successors = ChannelSuccessors(before, after);
  std::map<std::string, std::string> labels;
  for (size_t i = 0; i < before.size(); ++i) {
    labels[old_labels[i]] = successors[i] ? new_labels[*successors[i]] : "";
  }
  return labels;
}

}  // namespace supervisor
