#include "daemon/service/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/atomic_file.h"
#include "daemon/service/environment_digest.h"

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(ResolveIdentity, LaterSourcesWin) {
  ServiceConfig config;
  const std::string path = testing::TempDir() + "/later_sources_win.env";
  ASSERT_TRUE(WriteFileAtomically(path, "A=file\nB=file\n", 0600).ok());
  config.environment_file = path;
  config.environment = {{"B", "configured"}};
  const absl::StatusOr<ServiceIdentity> identity = ResolveIdentity(config);
  unlink(path.c_str());
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_THAT(identity->variables, ElementsAre(Pair("A", "file"), Pair("B", "configured")));
  EXPECT_FALSE(identity->credentials.has_value());
}

// A service must not read what only root may read by a link that its own user made.
TEST(ReadEnvironmentFile, MayBeTheServicesUsersOwnAndLeadNowhereElse) {
  constexpr uid_t kNobody = 65534;
  if (geteuid() != 0) {
    GTEST_SKIP() << "only root can make what belongs to others";
  }
  std::string directory = "/tmp/environment_test.XXXXXX";
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  chmod(directory.c_str(), 0755);
  const std::string secret = directory + "/secret";
  const std::string his = directory + "/his";
  ASSERT_TRUE(WriteFileAtomically(secret, "A=secret\n", 0600).ok());
  std::filesystem::create_directory(his);
  ASSERT_TRUE(WriteFileAtomically(his + "/own", "A=own\n", 0600).ok());
  std::filesystem::create_symlink(secret, his + "/link");
  std::filesystem::create_symlink("own", his + "/to-own");
  for (const std::string& path : {his, his + "/own", his + "/link", his + "/to-own"}) {
    ASSERT_EQ(lchown(path.c_str(), kNobody, kNobody), 0);
  }
  EXPECT_TRUE(ReadEnvironmentFile(secret, kNobody).ok());
  EXPECT_TRUE(ReadEnvironmentFile(his + "/own", kNobody).ok());
  EXPECT_TRUE(ReadEnvironmentFile(his + "/to-own", kNobody).ok());
  EXPECT_THAT(std::string(ReadEnvironmentFile(his + "/link", kNobody).status().message()),
              HasSubstr("environment_file " + his + "/link: lies below " + his + ", which belongs to uid 65534"));
  EXPECT_FALSE(ReadEnvironmentFile(his + "/own", {}).ok()) << "root's service";
  EXPECT_FALSE(ReadEnvironmentFile(his + "/own", uid_t{1000}).ok()) << "another user's service";
  EXPECT_TRUE(ReadEnvironmentFile(his + "/own", {}, FileTrust::kAny).ok());
  std::filesystem::remove_all(directory);
}

TEST(ResolveIdentity, AUserThatDoesNotExistIsNamed) {
  ServiceConfig config;
  config.user = "no-such-user-here";
  const absl::StatusOr<ServiceIdentity> identity = ResolveIdentity(config);
  ASSERT_FALSE(identity.ok());
  EXPECT_EQ(std::string(identity.status().message()), "user no-such-user-here: no such user");
}

TEST(ResolveIdentity, AMissingEnvironmentFileIsNamed) {
  ServiceConfig config;
  config.environment_file = "/no/such/file.env";
  const absl::StatusOr<ServiceIdentity> identity = ResolveIdentity(config);
  ASSERT_FALSE(identity.ok());
  EXPECT_THAT(std::string(identity.status().message()),
              HasSubstr("environment_file /no/such/file.env: No such file or directory"));
}

// ------------------------------------------------------------------------------------------------------------- digests

uint64_t DigestOf(const std::string& text) {
  const absl::StatusOr<Environment> variables = ParseEnvironmentFile(text);
  EXPECT_TRUE(variables.ok()) << variables.status();
  return EnvironmentDigest(*variables);
}

TEST(EnvironmentDigest, IsOfWhatTheFileMeans) {
  const uint64_t digest = DigestOf("A=1\nB=two words\n");
  EXPECT_EQ(DigestOf("# a comment\nB='two words'\n\nexport A=1\n"), digest);
  for (const char* other : {"A=2\nB=two words\n", "A=1\n", "A=1\nB=two words\nC=\n", "A=1B\n=two words", ""}) {
    const absl::StatusOr<Environment> variables = ParseEnvironmentFile(other);
    EXPECT_TRUE(!variables.ok() || EnvironmentDigest(*variables) != digest) << other;
  }
  EXPECT_NE(DigestOf("A=1\nB=2\n"), DigestOf("A=12\nB=\n"));
  EXPECT_NE(DigestOf(""), 0u) << "zero is for what is not known";
}

TEST(EnvironmentDigest, OfEachInstanceOfItsOwnFileAndOfNoneThatCannotBeRead) {
  const std::string path = testing::TempDir() + "/digests_of_each.env";
  ASSERT_TRUE(WriteFileAtomically(path, "A=1\n", 0600).ok());
  Config config;
  ServiceConfig plain;
  plain.id = "plain";
  ServiceConfig web = plain;
  web.id = "web";
  web.environment_file = path;
  ServiceConfig worker = plain;
  worker.id = "worker";
  worker.instances = 2;
  worker.environment_file = path + "${INSTANCE}";
  ServiceConfig shared = web;
  shared.id = "shared";
  shared.instances = 2;
  for (const ServiceConfig& service : {plain, web, worker, shared}) {
    config.services.emplace(service.id, service);
  }
  const uint64_t digest = DigestOf("A=1\n");
  const EnvironmentDigests digests = ReadEnvironmentDigests(config);
  unlink(path.c_str());
  EXPECT_EQ(digests, (EnvironmentDigests{{"web", digest}, {"shared:0", digest}, {"shared:1", digest}}));
}

}  // namespace
}  // namespace supervisor
