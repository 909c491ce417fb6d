#include "daemon/logs/log_index.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <vector>

#include "daemon/logs/gzip_log.h"
#include "daemon/logs/log_reader.h"
#include "gmock/gmock.h"
#include "tests/daemon/logs/log_pump_fixture.h"

namespace supervisor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

LogIndexRecord Record(int64_t first_ms, uint64_t offset, uint32_t tag = 1, uint32_t span_ms = 100) {
  return {.first_ms = first_ms, .span_ms = span_ms, .offset = offset, .tag = tag};
}

std::string Bytes(const std::vector<LogIndexRecord>& records) {
  std::string bytes;
  for (const LogIndexRecord& record : records) {
    AppendRecord(bytes, record);
  }
  return bytes;
}

std::vector<uint64_t> Offsets(const std::vector<LogIndexRecord>& records) {
  std::vector<uint64_t> offsets;
  offsets.reserve(records.size());
  for (const LogIndexRecord& record : records) {
    offsets.push_back(record.offset);
  }
  return offsets;
}

TEST(LogIndexFormat, WhatWasAppendedIsRead) {
  const std::vector<LogIndexRecord> read = ParseRecords(Bytes({Record(1'700'000'000'123, uint64_t{1} << 40, 7, 9)}));
  ASSERT_EQ(read.size(), 1U);
  EXPECT_EQ(read[0].first_ms, 1'700'000'000'123);
  EXPECT_EQ(read[0].span_ms, 9U);
  EXPECT_EQ(read[0].offset, uint64_t{1} << 40);
  EXPECT_EQ(read[0].tag, 7U);
}

TEST(LogIndexFormat, ARecordCutAnywhereCostsItselfAlone) {
  for (size_t kept = 0; kept < kIndexRecordBytes; ++kept) {
    const std::string bytes =
        Bytes({Record(1, 10)}) + Bytes({Record(2, 20)}).substr(0, kept) + Bytes({Record(3, 30), Record(4, 40)});
    EXPECT_THAT(Offsets(ParseRecords(bytes)), ElementsAre(10, 30, 40)) << kept;
  }
}

TEST(LogIndexFormat, AFlippedBitCostsItsRecordAlone) {
  const std::string good = Bytes({Record(1, 10), Record(2, 20), Record(3, 30)});
  for (size_t bit = kIndexRecordBytes * 8; bit < 2 * kIndexRecordBytes * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_THAT(Offsets(ParseRecords(bad)), ElementsAre(10, 30)) << bit;
  }
  EXPECT_TRUE(ParseRecords(std::string(100'000, 'x')).empty());
}

TEST(LogTimes, ATruncatedFilesOldRecordsCountNoMore) {
  const FileId id{.device = 1, .inode = 2, .born_ns = 3'000'000};
  const uint32_t tag = FileTag(id);
  const auto spans = LogTimes::Of({Record(1000, 0, tag), Record(2000, 50, tag), Record(3000, 90, tag),
                                   Record(4000, 50, tag), Record(5000, 60, tag), Record(9000, 5, tag + 1)})
                         .SpansOf(id, 5000);
  ASSERT_EQ(spans.size(), 3U);
  EXPECT_EQ(spans[1].offset, 50U);
  EXPECT_EQ(spans[1].first_ms, 4000);
  EXPECT_EQ(spans[2].offset, 60U);
  EXPECT_EQ(spans[2].last_ms, 5100);
}

TEST(LogTimes, WithoutRecordsTheFilesOwnTimesCount) {
  const FileId id{.device = 1, .inode = 2, .born_ns = 1'000'000'000};
  const auto spans = LogTimes().SpansOf(id, 7000);
  ASSERT_EQ(spans.size(), 1U);
  EXPECT_EQ(spans[0].first_ms, 1000);
  EXPECT_EQ(spans[0].last_ms, 7000);
  const auto behind = LogTimes::Of({Record(5000, 40, FileTag(id))}).SpansOf(id, 7000);
  ASSERT_EQ(behind.size(), 2U);
  EXPECT_EQ(behind[0].first_ms, 1000);
  EXPECT_EQ(behind[0].last_ms, 5000);
  EXPECT_EQ(behind[1].last_ms, 7000);
}

TEST(RangeOf, TakesTheSpansBetweenTheTimes) {
  const std::vector<LogSpan> spans{{0, 1000, 1100}, {10, 2000, 2100}, {20, 3000, 3100}};
  const auto range = [&](std::optional<int64_t> since, std::optional<int64_t> until) {
    const LogRange found = RangeOf(spans, 30, since, until);
    return std::pair(found.from, found.to);
  };
  EXPECT_EQ(range({}, {}), std::pair(uint64_t{0}, uint64_t{30}));
  EXPECT_EQ(range(1101, {}), std::pair(uint64_t{10}, uint64_t{30}));
  EXPECT_EQ(range(2100, {}), std::pair(uint64_t{10}, uint64_t{30}));
  EXPECT_EQ(range(2101, {}), std::pair(uint64_t{20}, uint64_t{30}));
  EXPECT_EQ(range(3101, {}), std::pair(uint64_t{30}, uint64_t{30}));
  EXPECT_EQ(range({}, 999), std::pair(uint64_t{0}, uint64_t{0}));
  EXPECT_EQ(range({}, 1999), std::pair(uint64_t{0}, uint64_t{10}));
  EXPECT_EQ(range({}, 2000), std::pair(uint64_t{0}, uint64_t{20}));
  EXPECT_EQ(range(1500, 2500), std::pair(uint64_t{10}, uint64_t{20}));
}

TEST(ThinRecords, DropsDeadFilesFirstAndThenEverySecondOldOne) {
  std::vector<LogIndexRecord> records{Record(1, 0, 9), Record(2, 5, 9)};
  for (uint32_t i = 0; i < 8; ++i) {
    records.push_back(Record(1000 * i, i * 10));
  }
  EXPECT_THAT(Offsets(ThinRecords(records, {1}, 8)), ElementsAre(0, 10, 20, 30, 40, 50, 60, 70));
  const auto thinned = ThinRecords(records, {1}, 4);
  EXPECT_THAT(Offsets(thinned), ElementsAre(0, 20, 40, 50, 60, 70));
  EXPECT_EQ(thinned[0].span_ms, 1100U);  // both spans and what lies between
}

// ------------------------------------------------------------------------------------------------ the pump's own index

class LogIndexTest : public LogPumpTest {
 protected:
  std::string IndexPath() const { return dir_ / "log/.web.log.index"; }
  // Writes, and returns when it was captured.
  int64_t WriteAndWait(const UniqueFd& out, std::string_view bytes) {
    const uint64_t before = pump_->Stats("web").captured_bytes;
    WriteAll(out.get(), bytes);
    EXPECT_TRUE(Await([&] { return pump_->Stats("web").captured_bytes == before + bytes.size(); }));
    return absl::ToUnixMillis(WallNow());
  }
  // Until a later write has a time of its own.
  static void AwaitNextSpan(int64_t after) {
    ASSERT_TRUE(Await([&] { return absl::ToUnixMillis(WallNow()) > after + 250; }));
  }
  std::string Select(const LogSelection& selection) const {
    LogReader reader(dir_ / "log/web.log");
    EXPECT_TRUE(reader.Seek(selection).ok());
    std::string all;
    for (;;) {
      const auto block = reader.Read(1000);
      EXPECT_TRUE(block.ok()) << block.status();
      if (!block.ok() || block->empty()) {
        return all;
      }
      all += *block;
    }
  }
  std::string Since(int64_t ms) const { return Select({.since_ms = ms}); }
  std::string Until(int64_t ms) const { return Select({.until_ms = ms}); }
};

TEST_F(LogIndexTest, FindsLinesByTheirTime) {
  const UniqueFd out = MustOpen("web", Options("web"));
  const int64_t one = WriteAndWait(out, "one\n");
  AwaitNextSpan(one);
  const int64_t two = WriteAndWait(out, "two a\ntwo b\n");
  AwaitNextSpan(two);
  const int64_t three = WriteAndWait(out, "three\n");
  EXPECT_EQ(Since(one - 1000), "one\ntwo a\ntwo b\nthree\n");
  EXPECT_EQ(Since(one + 200), "two a\ntwo b\nthree\n");
  EXPECT_EQ(Since(two + 200), "three\n");
  EXPECT_EQ(Since(three + 200), "");
  EXPECT_EQ(Until(one - 1000), "");
  EXPECT_EQ(Until(one + 200), "one\n");
  EXPECT_EQ(Until(two + 200), "one\ntwo a\ntwo b\n");
  EXPECT_EQ(Select({.lines = 1, .until_ms = two + 200}), "two b\n");
  EXPECT_EQ(Select({.lines = 2, .since_ms = two + 200}), "three\n");
  EXPECT_EQ(Select({.since_ms = one + 200, .until_ms = two + 200}), "two a\ntwo b\n");
  EXPECT_EQ(ReadFile(dir_ / "log/web.log"), "one\ntwo a\ntwo b\nthree\n");
}

TEST_F(LogIndexTest, FindsThemOverRotatedAndCompressedFiles) {
  LogStreamOptions options = Options("web");
  options.max_size_bytes = 12;
  options.compress = true;
  const UniqueFd out = MustOpen("web", options);
  std::vector<int64_t> times;
  for (int i = 0; i < 5; ++i) {
    times.push_back(WriteAndWait(out, "line " + std::to_string(i) + "a\nline " + std::to_string(i) + "b\n"));
    AwaitNextSpan(times.back());
  }
  ASSERT_TRUE(Await([&] { return Exists(dir_ / "log/web.log.1.gz") && Exists(dir_ / "log/web.log.8.gz"); }));
  EXPECT_EQ(Since(times[2] + 200), "line 3a\nline 3b\nline 4a\nline 4b\n");
  EXPECT_EQ(Until(times[1] + 200), "line 0a\nline 0b\nline 1a\nline 1b\n");
  EXPECT_EQ(Select({.since_ms = times[0] + 200, .until_ms = times[2] + 200}), "line 1a\nline 1b\nline 2a\nline 2b\n");
  EXPECT_EQ(Select({.lines = 3, .until_ms = times[2] + 200}), "line 1b\nline 2a\nline 2b\n");
  EXPECT_EQ(Select({.lines = 2, .matches = [](std::string_view line) { return line.ends_with('a'); }}),
            "line 3a\nline 3b\nline 4a\nline 4b\n");
}

TEST_F(LogIndexTest, ANewDaemonGoesOnWithItAndATornRecordIsNoObstacle) {
  UniqueFd out = MustOpen("web", Options("web"));
  const int64_t one = WriteAndWait(out, "one\n");
  out.Reset();
  pump_ = nullptr;
  {
    const UniqueFd index(open(IndexPath().c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    WriteAll(index.get(), "SVI1 torn");
  }
  AwaitNextSpan(one);
  pump_ = std::make_unique<LogPump>(nullptr);
  out = MustOpen("web", Options("web"));
  const int64_t two = WriteAndWait(out, "two\n");
  EXPECT_EQ(Since(one - 1000), "one\ntwo\n");
  EXPECT_EQ(Since(one + 200), "two\n");
  EXPECT_EQ(Since(two + 200), "");
}

TEST_F(LogIndexTest, ALogFromBeforeTheIndexHasItsFilesTimes) {
  ASSERT_EQ(mkdir((dir_ / "log").c_str(), 0755), 0);
  WriteFile(dir_ / "log/web.log", "old\n");
  const timespec hour_ago{.tv_sec = absl::ToUnixSeconds(WallNow()) - 3600, .tv_nsec = 0};
  const timespec times[2] = {hour_ago, hour_ago};
  ASSERT_EQ(utimensat(AT_FDCWD, (dir_ / "log/web.log").c_str(), times, 0), 0);
  const int64_t now = absl::ToUnixMillis(WallNow());
  EXPECT_EQ(Since(now - 300'000), "");
  const UniqueFd out = MustOpen("web", Options("web"));
  WriteAndWait(out, "new\n");
  EXPECT_EQ(Since(now - 300'000), "new\n");
  EXPECT_EQ(Since(now - 7'200'000), "old\nnew\n");
  EXPECT_EQ(Until(now - 300'000), "old\n");
}

TEST_F(LogIndexTest, ATruncatedFileIsIndexedAnew) {
  const UniqueFd out = MustOpen("web", Options("web"));
  const int64_t one = WriteAndWait(out, "a first line\n");
  AwaitNextSpan(one);
  ASSERT_EQ(truncate((dir_ / "log/web.log").c_str(), 0), 0);  // logrotate's copytruncate
  const int64_t two = WriteAndWait(out, "two\n");
  AwaitNextSpan(two);
  WriteAndWait(out, "three\n");
  EXPECT_EQ(Since(one + 200), "two\nthree\n");
  EXPECT_EQ(Since(two + 200), "three\n");
}

TEST_F(LogIndexTest, APlantedLinkIsReplacedAndItsTargetLeftAlone) {
  ASSERT_EQ(mkdir((dir_ / "log").c_str(), 0755), 0);
  WriteFile(dir_ / "secret", "keep");
  ASSERT_EQ(symlink((dir_ / "secret").c_str(), IndexPath().c_str()), 0);
  UniqueFd out = MustOpen("web", Options("web"));
  WriteAndWait(out, "one\n");
  EXPECT_EQ(ReadFile(dir_ / "secret"), "keep");
  EXPECT_TRUE(IsRegular(IndexPath()));

  out.Reset();
  pump_ = nullptr;
  ASSERT_EQ(unlink(IndexPath().c_str()), 0);
  ASSERT_EQ(link((dir_ / "secret").c_str(), IndexPath().c_str()), 0);
  pump_ = std::make_unique<LogPump>(nullptr);
  out = MustOpen("web", Options("web"));
  WriteAndWait(out, "two\n");
  EXPECT_EQ(ReadFile(dir_ / "secret"), "keep");
  EXPECT_EQ(ReadFile(dir_ / "log/web.log"), "one\ntwo\n");
}

TEST_F(LogIndexTest, WhatIsInItsPlaceHoldsUpNoLog) {
  ASSERT_EQ(mkdir((dir_ / "log").c_str(), 0755), 0);
  ASSERT_EQ(mkdir(IndexPath().c_str(), 0755), 0);
  const UniqueFd out = MustOpen("web", Options("web"));
  const int64_t one = WriteAndWait(out, "one\n");
  EXPECT_EQ(Since(one - 1000), "one\n");
  EXPECT_EQ(pump_->Stats("web").error, "");
  AwaitNextSpan(one);
  WriteAndWait(out, "two\n");
  ASSERT_EQ(rmdir(IndexPath().c_str()), 0);
  // It comes with the next look, and what came meanwhile is known to have come by then.
  ASSERT_TRUE(Await([&] {
    WriteAndWait(out, "more\n");
    return IsRegular(IndexPath());
  }));
  EXPECT_THAT(Since(one + 200), HasSubstr("two\n"));
}

TEST_F(LogIndexTest, ADeletedIndexComesBack) {
  const UniqueFd out = MustOpen("web", Options("web"));
  WriteAndWait(out, "one\n");
  ASSERT_EQ(unlink(IndexPath().c_str()), 0);
  ASSERT_TRUE(Await([&] {
    WriteAndWait(out, "more\n");
    return Exists(IndexPath());
  }));
}

TEST_F(LogIndexTest, StaysSmallOverAnyNumberOfRotations) {
  LogStreamOptions options = Options("web");
  options.max_size_bytes = 64;
  options.max_files = 3;
  const UniqueFd out = MustOpen("web", options);
  const std::string lines = NumberedLines(0, 60'000);  // some twenty thousand files
  WriteAll(out.get(), lines);
  FlushAndWait(*pump_, "web");
  struct stat status {};
  ASSERT_EQ(stat(IndexPath().c_str(), &status), 0);
  EXPECT_LE(status.st_size, 300 << 10);
  EXPECT_GT(pump_->Stats("web").rotations, 10'000U);
  EXPECT_FALSE(Exists(dir_ / "log/.web.log.index.tmp"));
  EXPECT_EQ(Since(absl::ToUnixMillis(WallNow()) - 3'600'000), ReadWholeLog(dir_ / "log/web.log"));
}

TEST_F(LogIndexTest, ReadersAreToldTimes) {
  const UniqueFd out = MustOpen("web", Options("web"));
  const int64_t one = WriteAndWait(out, "one\n");
  AwaitNextSpan(one);
  const int64_t two = WriteAndWait(out, "two\n");
  LogReader reader(dir_ / "log/web.log");
  reader.TellTimes();
  ASSERT_TRUE(reader.SeekToStart().ok());
  EXPECT_EQ(*reader.Read(1000), "one\n");
  EXPECT_NEAR(static_cast<double>(*reader.read_time_ms()), static_cast<double>(one), 2000);
  EXPECT_EQ(*reader.Read(1000), "two\n");
  EXPECT_GT(*reader.read_time_ms(), one + 200);
  EXPECT_LE(*reader.read_time_ms(), two);
  WriteAndWait(out, "three\n");
  EXPECT_EQ(*reader.Read(1000), "three\n");
  EXPECT_FALSE(reader.read_time_ms().has_value());
}

TEST_F(LogIndexTest, APositionIsFoundAgainAfterRotationAndCompression) {
  LogStreamOptions options = Options("web");
  options.max_size_bytes = 16;
  const UniqueFd out = MustOpen("web", options);
  WriteAndWait(out, "line 1\nline 2\n");
  LogReader reader(dir_ / "log/web.log");
  ASSERT_TRUE(reader.SeekToStart().ok());
  EXPECT_EQ(*reader.Read(7), "line 1\n");
  const LogPosition position = reader.position();
  const auto rest = [&] {
    LogReader again(dir_ / "log/web.log");
    EXPECT_TRUE(again.SeekAfter(position).ok());
    std::string all;
    for (auto block = again.Read(1000); block.ok() && !block->empty(); block = again.Read(1000)) {
      all += *block;
    }
    return all;
  };
  EXPECT_EQ(rest(), "line 2\n");
  options.compress = true;
  ASSERT_TRUE(pump_->Open("web", options).ok());
  WriteAndWait(out, "line 3\nline 4\nline 5\n");
  ASSERT_TRUE(Await([&] { return Exists(dir_ / "log/web.log.1.gz") && !Exists(dir_ / "log/web.log.1"); }));
  EXPECT_EQ(rest(), "line 2\nline 3\nline 4\nline 5\n");
  // Its file deleted: the oldest that came later.
  ASSERT_TRUE(Await([&] { return Exists(dir_ / "log/web.log.2.gz") && !Exists(dir_ / "log/web.log.2"); }));
  ASSERT_EQ(unlink((dir_ / "log/web.log.2.gz").c_str()), 0);
  EXPECT_EQ(rest(), "line 3\nline 4\nline 5\n");
}

}  // namespace
}  // namespace supervisor
