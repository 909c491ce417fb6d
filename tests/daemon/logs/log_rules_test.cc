#include <limits>
#include <string>

#include "daemon/logs/line_stamper.h"
#include "daemon/logs/rotation_rule.h"
#include "gtest/gtest.h"

namespace supervisor {
namespace {

using Kind = AppendStep::Kind;
constexpr uint64_t kAny = std::numeric_limits<uint64_t>::max();

TEST(PlanAppend, TakesWhatWaitsUpToTheBudget) {
  EXPECT_EQ(PlanAppend(0, 100, 1000, 0).bytes, 100);
  EXPECT_EQ(PlanAppend(kAny / 2, 5000, 1000, 0).bytes, 1000);
  EXPECT_EQ(PlanAppend(10, 90, 1000, 100).bytes, 90) << "fits to the byte";
  EXPECT_EQ(PlanAppend(0, 5000, 1000, 2000).bytes, 1000);
}

TEST(PlanAppend, LooksWhereTheLimitFallsIntoWhatWaits) {
  const AppendStep step = PlanAppend(10, 91, 1000, 100);
  EXPECT_EQ(step.kind, Kind::kPeek);
  EXPECT_EQ(step.bytes, 90);
  EXPECT_EQ(PlanAppend(100, 5, 1000, 100).kind, Kind::kPeek) << "full: the line may have to be finished";
}

TEST(PlanAppend, CutsALineWithoutEnd) {
  EXPECT_EQ(PlanAppend(100 + kLineSlackBytes, 5, 1000, 100).kind, Kind::kRotate);
  const AppendStep last = PlanAppend(100 + kLineSlackBytes - 1, 500, 1000, 100);
  EXPECT_EQ(last.kind, Kind::kPeek);
  EXPECT_EQ(last.bytes, 1);
}

TEST(PlanPeeked, EndsTheFileAtItsLastLineEnd) {
  const AppendStep step = PlanPeeked(90, "ab\ncd\nefgh", 100, false);
  EXPECT_EQ(step.kind, Kind::kAppend);
  EXPECT_EQ(step.bytes, 6);
  EXPECT_EQ(PlanPeeked(96, "efgh", 100, true).kind, Kind::kRotate) << "the next line does not fit";
}

TEST(PlanPeeked, FinishesALineThatBeganInTheFile) {
  EXPECT_EQ(PlanPeeked(96, "efgh", 100, false).bytes, 4);
  EXPECT_EQ(PlanPeeked(100, "ij\nkl\n", 100, false).bytes, 3);
  EXPECT_EQ(PlanPeeked(103, "kl\n", 100, true).kind, Kind::kRotate);
}

TEST(PlanPeeked, AnEmptyFileTakesALineThatIsTooLong) {
  const AppendStep step = PlanPeeked(0, std::string(100, 'x'), 100, true);
  EXPECT_EQ(step.kind, Kind::kAppend);
  EXPECT_EQ(step.bytes, 100);
}

TEST(PlanPeeked, FewerBytesThanAskedForAreSimplyTaken) {
  EXPECT_EQ(PlanPeeked(90, "ab\ncd", 100, false).bytes, 5);
  EXPECT_EQ(PlanPeeked(90, "", 100, false).bytes, 0);
}

TEST(BytesToSkip, GoesOnAtALineStart) {
  EXPECT_EQ(BytesToSkip("abc\n", true, true), 0);
  EXPECT_EQ(BytesToSkip("rest\nnext\n", true, false), 5);
  EXPECT_EQ(BytesToSkip("rest\nnext\n", false, false), 4) << "the line end finishes the file's torn line";
  EXPECT_EQ(BytesToSkip("whole\nnext\n", false, true), 5);
  EXPECT_EQ(BytesToSkip("no end", true, false), std::nullopt);
}

TEST(LineStamper, PrefixesEveryLine) {
  LineStamper stamper;
  EXPECT_EQ(stamper.Stamp("a\nb\nc", "T ", true, kAny, false), "T a\nT b\nT c");
  EXPECT_EQ(stamper.Written(11), 5);
  EXPECT_EQ(stamper.Stamp("c\nd\n", "U ", false, kAny, false), "c\nU d\n");
  EXPECT_EQ(stamper.Stamp("\n\n", "T ", true, kAny, false), "T \nT \n");
}

TEST(LineStamper, StopsBeforeALineThatDoesNotFit) {
  LineStamper stamper;
  EXPECT_EQ(stamper.Stamp("aa\nbb\n", "T ", true, 9, false), "T aa\n");
  EXPECT_EQ(stamper.Stamp("aa\nbb\n", "T ", true, 4, false), "");
  EXPECT_EQ(stamper.Stamp("aa\nbb\n", "T ", true, 0, true), "T aa\n") << "forced: one piece";
}

TEST(LineStamper, EveryCutIsContinuedExactly) {
  const std::string raw = "one\n\ntwo\nthree";
  LineStamper whole;
  const std::string expected(whole.Stamp(raw, "PREFIX ", true, kAny, false));
  for (size_t cut = 0; cut <= expected.size(); ++cut) {
    LineStamper stamper;
    std::string file(stamper.Stamp(raw, "PREFIX ", true, kAny, false).substr(0, cut));
    const uint64_t taken = stamper.Written(cut);
    const bool at_line_start = file.empty() || file.back() == '\n';
    file += stamper.Stamp(std::string_view(raw).substr(taken), "PREFIX ", at_line_start, kAny, false);
    EXPECT_EQ(file, expected) << "cut at " << cut;
  }
}

TEST(LineStamper, CompletesAPrefixThatWasCutTwice) {
  LineStamper stamper;
  stamper.Stamp("a\n", "PREFIX ", true, kAny, false);
  EXPECT_EQ(stamper.Written(2), 0);
  EXPECT_EQ(stamper.Stamp("a\n", "OTHER! ", false, kAny, false), "EFIX a\n");
  EXPECT_EQ(stamper.Written(0), 0);
  EXPECT_EQ(stamper.Stamp("a\n", "OTHER! ", false, kAny, false), "EFIX a\n");
  EXPECT_EQ(stamper.Written(3), 0);
  EXPECT_EQ(stamper.Stamp("a\n", "OTHER! ", false, kAny, false), "X a\n");
}

}  // namespace
}  // namespace supervisor
