#include "daemon/config/applied_config.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace supervisor {
namespace {

std::vector<ConfigText> Sample() {
  return {{"/etc/supervisord/supervisor_config.json",
           "{\"version\": \"1.0\", \"global\": {\"include\": [\"conf.d/*.json\"]}}"},
          {"/etc/supervisord/conf.d/odd\nname.json",
           "{\"services\": {\"web\": {\"command\": \"true\", \"description\": \"checksum 0\\nfile 1 2\"}}}\n"},
          {"/etc/supervisord/conf.d/zero.json", ""}};
}

TEST(AppliedConfig, ReadsWhatItWrote) {
  const absl::StatusOr<std::vector<ConfigText>> texts = ParseAppliedConfig(FormatAppliedConfig(Sample()));
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_EQ(*texts, Sample());
}

TEST(AppliedConfig, ATornOneIsRefusedWhereverItWasCut) {
  const std::string text = FormatAppliedConfig(Sample());
  for (size_t size = 0; size < text.size(); ++size) {
    EXPECT_FALSE(ParseAppliedConfig(text.substr(0, size)).ok()) << size;
  }
}

TEST(AppliedConfig, AChangedByteIsFound) {
  const std::string text = FormatAppliedConfig(Sample());
  for (size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_FALSE(ParseAppliedConfig(changed).ok()) << i;
  }
}

TEST(AppliedConfig, IsLoadedWithoutTheFiles) {
  std::vector<ConfigText> texts = Sample();
  texts.pop_back();
  const LoadedConfig loaded = LoadConfig(texts, [](const std::string&) { return std::nullopt; });
  ASSERT_TRUE(loaded.config.has_value()) << loaded.errors.front().ToString();
  EXPECT_EQ(loaded.config->file, "/etc/supervisord/supervisor_config.json");
  EXPECT_EQ(loaded.config->services.at("web").working_directory, "/etc/supervisord/conf.d");
  EXPECT_EQ(loaded.texts, texts);
}

}  // namespace
}  // namespace supervisor
