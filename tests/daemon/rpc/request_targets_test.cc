#include "daemon/rpc/request_targets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Field = google::protobuf::RepeatedPtrField<std::string>;

TEST(BoundedTargets, EachOnceInTheirOrder) {
  Field field;
  for (const char* target : {"web", "worker:*", "web", "@back", "worker:*", "all"}) {
    *field.Add() = target;
  }
  EXPECT_THAT(*BoundedTargets(field), ElementsAre("web", "worker:*", "@back", "all"));
  EXPECT_TRUE(BoundedTargets(Field())->empty());
}

TEST(BoundedTargets, TheSameTargetAHundredThousandTimesIsOne) {
  Field field;
  for (int i = 0; i < 100'000; ++i) {
    *field.Add() = "w*";
  }
  EXPECT_THAT(*BoundedTargets(field), ElementsAre("w*"));
}

TEST(BoundedTargets, NumberAndLengthHaveBounds) {
  const auto message_of = [](const Field& field) { return std::string(BoundedTargets(field).status().message()); };
  Field globs;
  for (size_t i = 0; i < kMostGlobs; ++i) {
    *globs.Add() = "w*" + std::to_string(i);
  }
  EXPECT_TRUE(BoundedTargets(globs).ok());
  *globs.Add() = "x*";
  EXPECT_THAT(message_of(globs), HasSubstr("wildcards (expected at most 100)"));
  Field names;
  for (size_t i = 0; i < kMostTargets; ++i) {
    *names.Add() = "w" + std::to_string(i);
  }
  EXPECT_TRUE(BoundedTargets(names).ok());
  *names.Add() = "x";
  EXPECT_THAT(message_of(names), HasSubstr("too many targets"));
  Field longest;
  *longest.Add() = std::string(kLongestTarget, 'w');
  EXPECT_TRUE(BoundedTargets(longest).ok());
  *longest.Add() = std::string(kLongestTarget + 1, 'w');
  EXPECT_TRUE(absl::IsNotFound(BoundedTargets(longest).status()));
  EXPECT_THAT(message_of(longest), HasSubstr("no such service: www"));
  Field wide;
  std::string text = "x";  // so that byte 256 lies within a character
  while (text.size() <= kLongestTarget) {
    text += "\u00e4";
  }
  *wide.Add() = text;
  EXPECT_THAT(message_of(wide), HasSubstr("no such service: x\u00e4"));
  EXPECT_THAT(message_of(wide), HasSubstr("\u00e4... (a target has at most 256 bytes)")) << "between two characters";
}

}  // namespace
}  // namespace supervisor
