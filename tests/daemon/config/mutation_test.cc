#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <string>

#include "tests/daemon/config/config_files.h"

namespace supervisor {
namespace {

// A file that an editor or a full disk left half written, at every byte.
TEST(ConfigMutation, EveryTruncationIsAnError) {
  const ConfigFiles files;
  const std::string text = FullConfig();
  for (size_t length = 0; length < text.size(); ++length) {
    const LoadedConfig loaded = files.Load(text.substr(0, length), {{"HOME", "/root"}});
    ASSERT_FALSE(loaded.config.has_value()) << length;
    ASSERT_EQ(loaded.errors.size(), 1U) << length;
    ASSERT_EQ(loaded.errors[0].line == 0, false) << length;
    ASSERT_FALSE(loaded.errors[0].message.empty()) << length;
  }
}

// Either it is still a configuration, or there is an error that names a place in the file.
TEST(ConfigMutation, EveryFlippedByteIsAnErrorOrAConfiguration) {
  const ConfigFiles files;
  const std::string text = FullConfig();
  const auto lines = std::count(text.begin(), text.end(), '\n') + 2;
  unsigned mask = 1;
  for (size_t i = 0; i < text.size(); ++i) {
    std::string flipped = text;
    flipped[i] = static_cast<char>(static_cast<unsigned char>(flipped[i]) ^ mask);
    mask = mask == 0x80 ? 1 : mask << 1;
    const LoadedConfig loaded = files.Load(flipped, {{"HOME", "/root"}});
    ASSERT_EQ(loaded.config.has_value(), loaded.errors.empty()) << i;
    for (const ConfigError& error : loaded.errors) {
      ASSERT_GE(error.line, 1) << i << error.ToString();
      ASSERT_LE(error.line, lines) << i << error.ToString();
      ASSERT_GE(error.column, 1) << i << error.ToString();
      ASSERT_FALSE(error.message.empty()) << i;
    }
  }
}

TEST(ConfigMutation, EveryRemovedByteIsAnErrorOrAConfiguration) {
  const ConfigFiles files;
  const std::string text = FullConfig();
  for (size_t i = 0; i < text.size(); ++i) {
    const LoadedConfig loaded = files.Load(text.substr(0, i) + text.substr(i + 1), {{"HOME", "/root"}});
    ASSERT_EQ(loaded.config.has_value(), loaded.errors.empty()) << i;
  }
}

TEST(ConfigMutation, BytesOfRubbishAreErrors) {
  const ConfigFiles files;
  for (int byte = 0; byte < 256; ++byte) {
    for (const size_t length : {1U, 2U, 1000U}) {
      ASSERT_FALSE(files.Errors(std::string(length, static_cast<char>(byte))).empty()) << byte;
    }
  }
}

}  // namespace
}  // namespace supervisor
