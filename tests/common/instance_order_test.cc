#include "common/instance_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

namespace supervisor {
namespace {

TEST(InstanceOrderTest, NumbersAreComparedAsNumbers) {
  const std::set<std::string, InstanceIdLess> ids = {"w:10", "w:2", "w:0", "w-b:1", "a",
                                                     "w",    "w10", "w2",  "w:1",   "w:100"};
  EXPECT_THAT(ids, testing::ElementsAre("a", "w", "w:0", "w:1", "w:2", "w:10", "w:100", "w-b:1", "w10", "w2"));
  EXPECT_EQ(ids.count(std::string_view("w:10")), 1U);
}

}  // namespace
}  // namespace supervisor
