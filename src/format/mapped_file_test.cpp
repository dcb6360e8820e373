#include "format/mapped_file.h"

#include <csignal>
#include <cstring>
#include <numeric>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/test_files.h"

namespace pagemill {
namespace {

int sum(std::span<const std::byte> bytes) {
  int total = 0;
  for (const std::byte byte : bytes) total += std::to_integer<int>(byte);
  return total;
}

TEST(MappedFile, TruncationWhileMappedReadsAsZerosAndIsReported) {
  const TemporaryFolder folder;
  const auto path = folder.write("m", std::string(100'000, '\1'));
  const auto file = MappedFile::open(path);
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(sum((*file)->bytes()), 100'000);
  ASSERT_TRUE((*file)->check_intact());

  std::filesystem::resize_file(path, 4'096);
  EXPECT_EQ(sum((*file)->bytes()), 4'096);
  // Even if the size is right again: what was read meanwhile was not the file.
  std::filesystem::resize_file(path, 100'000);
  const auto intact = (*file)->check_intact();
  ASSERT_FALSE(intact);
  EXPECT_EQ(intact.error().code, ErrorCode::io);
  EXPECT_THAT(intact.error().message, testing::StartsWith(path.string() + ": the file was truncated"));
}

TEST(MappedFile, ReadsPartsWithoutMappingThem) {
  const TemporaryFolder folder;
  std::string text(100'000, '\0');
  std::iota(text.begin(), text.end(), '\0');
  const auto path = folder.write("m", text);
  const auto file = MappedFile::open(path);
  ASSERT_TRUE(file);
  std::string part(70'000, 'x');
  ASSERT_TRUE((*file)->read((*file)->bytes().data() + 20'001, std::as_writable_bytes(std::span(part))));
  EXPECT_EQ(part, text.substr(20'001, part.size()));
  std::filesystem::resize_file(path, 50'000);
  EXPECT_FALSE((*file)->read((*file)->bytes().data() + 20'001, std::as_writable_bytes(std::span(part))));
  EXPECT_FALSE((*file)->check_intact());
}

TEST(MappedFile, TruncationIsReportedBeforeAnybodyReads) {
  const TemporaryFolder folder;
  // Within a page: no access of the mapping faults, the rest of the page reads as zeros.
  const auto path = folder.write("m", std::string(1'000, '\1'));
  const auto file = MappedFile::open(path);
  ASSERT_TRUE(file);
  std::filesystem::resize_file(path, 999);
  EXPECT_FALSE((*file)->check_intact());
}

TEST(MappedFile, ADamagedFileDoesNotTouchOthers) {
  const TemporaryFolder folder;
  const auto path = folder.write("a", std::string(50'000, '\1'));
  const auto damaged = MappedFile::open(path);
  const auto other = MappedFile::open(folder.write("b", std::string(50'000, '\2')));
  ASSERT_TRUE(damaged && other);
  std::filesystem::resize_file(path, 0);
  EXPECT_EQ(sum((*damaged)->bytes()), 0);
  EXPECT_EQ(sum((*other)->bytes()), 100'000);
  EXPECT_FALSE((*damaged)->check_intact());
  EXPECT_TRUE((*other)->check_intact());
}

TEST(MappedFile, APlaceInTheTableIsUsedAgain) {
  const TemporaryFolder folder;
  const auto path = folder.write("m", "content");
  for (int i = 0; i < 10'000; ++i) {
    const auto file = MappedFile::open(path);
    ASSERT_TRUE(file) << file.error().message;
    ASSERT_TRUE((*file)->check_intact());
  }
}

TEST(MappedFile, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  EXPECT_EQ(MappedFile::open(folder.path() / "none").error().code, ErrorCode::not_found);
  EXPECT_THAT(MappedFile::open(folder.path()).error().message, testing::HasSubstr("is not a regular file"));
  EXPECT_THAT(MappedFile::open(folder.write("empty", "")).error().message, testing::HasSubstr("the file is empty"));
  const auto fifo = folder.path() / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(MappedFile::open(fifo).error().message, testing::HasSubstr("is not a regular file"));
}

// A fault outside our mappings must still end the process: anything else would repeat it for ever.
TEST(MappedFileDeathTest, AForeignFaultStillKills) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        signal(SIGBUS, SIG_DFL);
        const TemporaryFolder folder;
        const auto ours = MappedFile::open(folder.write("ours", "x"));
        const auto path = folder.write("foreign", std::string(10'000, '\1'));
        FILE* stream = fopen(path.c_str(), "r");
        auto* bytes = static_cast<volatile char*>(mmap(nullptr, 10'000, PROT_READ, MAP_PRIVATE, fileno(stream), 0));
        std::filesystem::resize_file(path, 0);
        _exit(bytes[5'000]);
      },
      "");
}

TEST(MappedFileDeathTest, AForeignFaultReachesThePreviousHandler) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        signal(SIGBUS, [](int) { _exit(77); });
        const TemporaryFolder folder;
        const auto ours = MappedFile::open(folder.write("ours", "x"));
        raise(SIGBUS);
        _exit(1);
      },
      testing::ExitedWithCode(77), "");
}

}  // namespace
}  // namespace pagemill
