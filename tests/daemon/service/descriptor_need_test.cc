#include "daemon/service/descriptor_need.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

TEST(DescriptorNeed, OfWhatIsOpenWhileAServiceIsUp) {
  ServiceConfig service;
  const uint64_t plain = DescriptorsFor(service);
  EXPECT_EQ(plain, 5u) << "a pidfd, both ends of the FIFO, the log and its index";
  service.logs.stderr_mode = StderrMode::kSeparate;
  EXPECT_EQ(DescriptorsFor(service), plain + 4);
  service.readiness.type = ReadinessType::kNotify;
  EXPECT_EQ(DescriptorsFor(service), plain + 5);
  service.health_check.type = HealthCheckType::kTcp;
  EXPECT_EQ(DescriptorsFor(service), plain + 6);
  service = {};
  service.environment["WATCHDOG_USEC"] = "1000000";
  EXPECT_EQ(DescriptorsFor(service), plain + 1);
}

TEST(DescriptorNeed, HowManyAreCarriedGoesByTheAverage) {
  Config config;
  EXPECT_EQ(InstancesCarried(config, 50), 10u) << "plain ones, where none is configured";
  config.services["a"].instances = 3;
  config.services["b"].logs.stderr_mode = StderrMode::kSeparate;
  EXPECT_EQ(NeedOf(config).instances, 4u);
  EXPECT_EQ(NeedOf(config).descriptors, 24u);
  EXPECT_EQ(InstancesCarried(config, 24), 4u);
  EXPECT_EQ(InstancesCarried(config, 240), 40u);
  EXPECT_EQ(InstancesCarried(config, 5), 0u);
  EXPECT_EQ(InstancesCarried(config, 0), 0u);
}

TEST(DescriptorNeed, WhatIsDisabledIsNotCounted) {
  Config config;
  config.services["a"].instances = 3;
  config.services["b"].enabled = false;
  config.services["c"].instances = 2;
  EXPECT_EQ(InstancesEnabled(config), 5u);
}

}  // namespace
}  // namespace supervisor
