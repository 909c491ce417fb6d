#include "daemon/service/secret_mask.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

SecretMask MaskOf(const Environment& environment) {
  SecretMask mask;
  mask.Learn(environment);
  return mask;
}

TEST(SecretMask, ByName) {
  for (const std::string name : {"API_TOKEN", "db_password", "PGPASS", "AWS_SECRET_ACCESS_KEY", "SENTRY_DSN"}) {
    EXPECT_EQ(MaskOf({{name, "hunter22"}}).Hide("it is hunter22!"), "it is ***!") << name;
  }
  EXPECT_EQ(MaskOf({{"API_TOKEN", "abc"}}).Hide("abc"), "abc");  // too short to be replaced everywhere
}

TEST(SecretMask, ByWhatItIs) {
  EXPECT_EQ(MaskOf({{"X", "my-canary-1"}}).Hide("x my-canary-1 y"), "x *** y");
  EXPECT_EQ(MaskOf({{"X", "aB3dEf6hIj9lMn2pQr5t"}}).Hide("x aB3dEf6hIj9lMn2pQr5t"), "x ***");
  EXPECT_EQ(MaskOf({{"X", "0123456789abcdef0123456789abcdef"}}).Hide("0123456789abcdef0123456789abcdef"), "***");
  EXPECT_EQ(MaskOf({{"DATABASE", "postgres://app:pa55word@db:5432/x"}}).Hide("cannot reach app:pa55word@db"),
            "cannot reach app:***@db");
}

TEST(SecretMask, WhatIsNoSecretStays) {
  const Environment plain = {{"PATH", "/usr/local/bin:/usr/bin"},
                             {"HOME", "/home/Service2/DataDirectory01"},
                             {"MODE", "production"},
                             {"URL", "http://127.0.0.1:8080/health"},
                             {"NODE", "web-01.example.org"},
                             {"TZ", "Europe/Vienna"},
                             {"LIB", "/opt/Lib64/python3/Modules7"}};
  EXPECT_TRUE(MaskOf(plain).empty());
}

TEST(SecretMask, NothingIsLeftOfOneThatBeginsWithAnother) {
  const SecretMask mask = MaskOf({{"A_KEY", "canary-1"}, {"B_KEY", "canary-1-and-more"}});
  EXPECT_EQ(mask.Hide("canary-1-and-more canary-1"), "*** ***");
}

TEST(SecretMask, OfWhatWasCut) {
  const SecretMask mask = MaskOf({{"A_KEY", "correct-horse-battery"}});
  EXPECT_EQ(mask.Hide("e-battery and then"), "*** and then");
  EXPECT_EQ(mask.Hide("it was correct-hor"), "it was ***");
  EXPECT_EQ(mask.Hide("content \"it was correct-hor...\" (expected x)"), "content \"it was ***...\" (expected x)");
  EXPECT_EQ(mask.Hide("exit 1: ...e-battery here"), "exit 1: ...*** here");
  EXPECT_EQ(mask.Hide("... correct ... battery ..."), "... correct ... battery ...");
}

TEST(SecretMask, EachLineOfAKey) {
  const SecretMask mask = MaskOf({{"TLS_KEY", "-----BEGIN-----\nMIIEvQIBADANBg\nab\n"}});
  EXPECT_EQ(mask.Hide("bad line MIIEvQIBADANBg in ab"), "bad line *** in ab");
}

TEST(SecretMask, LearnsMore) {
  SecretMask mask = MaskOf({{"A_KEY", "first-one"}});
  mask.Learn({{"A_KEY", "second-one"}});
  EXPECT_EQ(mask.Hide("first-one second-one"), "*** ***");
}

}  // namespace
}  // namespace supervisor
