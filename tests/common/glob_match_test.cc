#include "common/glob_match.h"

#include <fnmatch.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

namespace supervisor {
namespace {

TEST(GlobMatches, AsFnmatchDoes) {
  std::mt19937 random(7);
  const std::string letters = "ab-*?[]!\\.";
  const auto some = [&](size_t most, size_t kinds) {
    std::string text(random() % (most + 1), 'a');
    for (char& c : text) {
      c = letters[random() % kinds];
    }
    return text;
  };
  for (int i = 0; i < 200'000; ++i) {
    const std::string pattern = some(7, letters.size());
    // Of broken sets and ranges that end before they begin POSIX says nothing; the rest has to agree.
    if (pattern.find('[') != std::string::npos && pattern.find('\\') != std::string::npos) {
      continue;
    }
    const std::string text = some(6, 3);
    EXPECT_EQ(GlobMatches(pattern, text), fnmatch(pattern.c_str(), text.c_str(), 0) == 0)
        << "pattern " << pattern << ", text " << text;
  }
}

TEST(GlobMatches, NamesOfServices) {
  EXPECT_TRUE(GlobMatches("worker:*", "worker:12"));
  EXPECT_TRUE(GlobMatches("*-prod", "architect-prod"));
  EXPECT_FALSE(GlobMatches("*-prod", "architect-prod-2"));
  EXPECT_TRUE(GlobMatches("[a-c]?[!x]", "b1y"));
  EXPECT_FALSE(GlobMatches("[a-c]?[!x]", "b1x"));
  EXPECT_TRUE(GlobMatches("", ""));
  EXPECT_FALSE(GlobMatches("", "a"));
  EXPECT_TRUE(GlobMatches("***", ""));
  EXPECT_TRUE(GlobMatches("a\\*", "a*"));
  EXPECT_FALSE(GlobMatches("a\\*", "ab"));
}

TEST(GlobMatches, NoPatternTakesLong) {
  std::string pattern;
  for (int i = 0; i < 5'000; ++i) {
    pattern += "*a";
  }
  EXPECT_FALSE(GlobMatches(pattern + "b", std::string(20'000, 'a')));
}

}  // namespace
}  // namespace supervisor
