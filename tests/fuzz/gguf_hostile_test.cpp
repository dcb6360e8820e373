// Lying GGUF files, one lie each: every one ends in an error that names the file and the field, before anything is allocated
// that the file's size does not justify.
#include <functional>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/limits.h"
#include "base/test_files.h"
#include "format/gguf.h"
#include "fuzz/gguf_image.h"
#include "support/allocation_counter.h"

namespace pagemill {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

Result<std::unique_ptr<WeightSource>> open_counted(const std::string& bytes) {
  const uint64_t before = allocated_bytes_ever();
  auto result = open_gguf_image("file.gguf", bytes);
  EXPECT_LE(allocated_bytes_ever() - before, 2 * bytes.size() + limits::kLoadSlackBytes) << "one copy is this test's own";
  return result;
}

std::string error_of(const std::string& bytes) {
  const auto result = open_counted(bytes);
  if (result) return "accepted";
  EXPECT_THAT(result.error().message, StartsWith("file.gguf: "));
  EXPECT_NE(result.error().field, "");
  EXPECT_TRUE(result.error().code == ErrorCode::invalid_file || result.error().code == ErrorCode::unsupported);
  return result.error().message;
}

struct Lie {
  const char* what;
  std::function<void(GgufImage&)> tell;
  const char* message;  // a part of it
};

void PrintTo(const Lie& lie, std::ostream* out) { *out << lie.what; }

ImageKey& key(GgufImage& image, std::string_view name) { return *image.find_key(name); }
ImageTensor& tensor(GgufImage& image, std::string_view name) { return *image.find_tensor(name); }

const Lie kLies[] = {
    {"magic", [](GgufImage& i) { i.magic = "GGML"; }, "magic is not \"GGUF\""},
    {"version 0", [](GgufImage& i) { i.version = 0; }, "version is 0"},
    {"version 1", [](GgufImage& i) { i.version = 1; }, "version is 1, supported are 2 and 3"},
    {"version 4", [](GgufImage& i) { i.version = 4; }, "version is 4"},
    {"big-endian", [](GgufImage& i) { i.version = 0x03000000; }, "big-endian"},

    {"tensor count 2^63", [](GgufImage& i) { i.tensor_count = uint64_t{1} << 63; }, "tensor_count is 9223372036854775808, 65536 at most"},
    {"tensor count -1", [](GgufImage& i) { i.tensor_count = UINT64_MAX; }, "tensor_count"},
    {"tensor count above the file", [](GgufImage& i) { i.tensor_count = 60'000; }, "more than the file has room for"},
    {"one tensor too many", [](GgufImage& i) { i.tensor_count = 5; }, "tensor 4"},
    {"key count 2^63", [](GgufImage& i) { i.key_count = uint64_t{1} << 63; }, "metadata_kv_count"},
    {"key count above the file", [](GgufImage& i) { i.key_count = 65'536; }, "more than the file has room for"},
    {"one key too few", [](GgufImage& i) { i.key_count = 15; }, "tensor t.empty has 9 dimensions"},

    {"key length 2^64-1", [](GgufImage& i) { i.keys[2].key.length = UINT64_MAX; }, "metadata key 2 has 18446744073709551615 bytes"},
    {"key length 65535", [](GgufImage& i) { i.keys[2].key.length = 65'535; }, "metadata key 2 lies beyond the end"},
    {"key length 0", [](GgufImage& i) { i.keys[2].key = {"", {}}; }, "metadata key 2 is malformed"},
    {"key with NUL", [](GgufImage& i) { i.keys[2].key.text = std::string("a\0b", 3); }, "malformed: \"a\\x00b\""},
    {"key with escape sequence", [](GgufImage& i) { i.keys[2].key.text = "\x1b[2J"; }, "malformed: \"\\x1b[2J\""},
    {"duplicate key", [](GgufImage& i) { i.keys[3].key.text = "t.u8"; }, "metadata t.u8 appears twice"},
    {"value type 13", [](GgufImage& i) { key(i, "t.u8").type = 13; }, "metadata t.u8 has the unknown value type 13"},
    {"value type -1", [](GgufImage& i) { key(i, "t.u8").type = UINT32_MAX; }, "unknown value type 4294967295"},
    {"boolean 2", [](GgufImage& i) { key(i, "t.bool").payload = "\2"; }, "metadata t.bool is a boolean with the value 2"},
    {"boolean 255 in an array", [](GgufImage& i) { key(i, "t.bools").payload[1] = '\xff'; }, "metadata t.bools is a boolean"},
    {"string length 2^64-1", [](GgufImage& i) { key(i, "general.architecture").payload = raw(UINT64_MAX); }, "metadata general.architecture has"},
    {"string length 2^63", [](GgufImage& i) { key(i, "general.architecture").payload = raw(uint64_t{1} << 63); }, "metadata general.architecture has"},
    {"string length 64 MB", [](GgufImage& i) { key(i, "general.architecture").payload = raw(uint64_t{64} << 20); }, "lies beyond the end"},
    {"array of arrays", [](GgufImage& i) { key(i, "t.bools").element_type = 9; }, "array of arrays"},
    {"array of unknown", [](GgufImage& i) { key(i, "t.bools").element_type = 99; }, "unknown value type 99"},
    {"array count 2^64-1", [](GgufImage& i) { key(i, "tokenizer.ggml.scores").count = UINT64_MAX; }, "metadata tokenizer.ggml.scores lies beyond"},
    {"array count 2^62", [](GgufImage& i) { key(i, "tokenizer.ggml.scores").count = uint64_t{1} << 62; }, "lies beyond the end"},
    {"array count 2^61 of u64", [](GgufImage& i) { key(i, "t.empty").element_type = 10; key(i, "t.empty").count = uint64_t{1} << 61; }, "lies beyond"},
    {"string array count 2^61", [](GgufImage& i) { key(i, "tokenizer.ggml.tokens").count = uint64_t{1} << 61; }, "metadata tokenizer.ggml.tokens lies beyond"},
    {"string array count above its strings", [](GgufImage& i) { key(i, "tokenizer.ggml.tokens").count = 40; }, "metadata tokenizer.ggml.tokens has"},

    {"alignment 0", [](GgufImage& i) { key(i, "general.alignment").payload = raw<uint32_t>(0); }, "general.alignment is 0"},
    {"alignment 24", [](GgufImage& i) { key(i, "general.alignment").payload = raw<uint32_t>(24); }, "not a power of two"},
    {"alignment 1", [](GgufImage& i) { key(i, "general.alignment").payload = raw<uint32_t>(1); }, "general.alignment is 1"},
    {"alignment 2^31", [](GgufImage& i) { key(i, "general.alignment").payload = raw(uint32_t{1} << 31); }, "tensor "},
    {"alignment negative", [](GgufImage& i) { key(i, "general.alignment") = scalar_key("general.alignment", 5, raw<int32_t>(-32)); }, "not an unsigned integer"},
    {"alignment a string", [](GgufImage& i) { key(i, "general.alignment") = scalar_key("general.alignment", 8, raw_string("32")); }, "not an unsigned integer"},

    {"tensor name of 64 bytes", [](GgufImage& i) { i.tensors[0].name.text = std::string(64, 'a'); }, "tensor 0's name has 64 bytes, 63 at most"},
    {"tensor name length -1", [](GgufImage& i) { i.tensors[0].name.length = UINT64_MAX; }, "tensor 0's name"},
    {"empty tensor name", [](GgufImage& i) { i.tensors[1].name.text = ""; }, "tensor 1 has a malformed name"},
    {"duplicate tensor", [](GgufImage& i) { i.tensors[1].name.text = "token_embd.weight"; }, "tensor token_embd.weight appears twice"},
    {"no dimensions", [](GgufImage& i) { tensor(i, "cube").extents = {}; }, "tensor cube has 0 dimensions"},
    {"five dimensions", [](GgufImage& i) { tensor(i, "cube").extents = {1, 1, 1, 1, 1}; }, "tensor cube has 5 dimensions"},
    {"dimensions -1", [](GgufImage& i) { tensor(i, "cube").dimensions = UINT32_MAX; }, "has 4294967295 dimensions"},
    {"extent 0", [](GgufImage& i) { tensor(i, "cube").extents[1] = 0; }, "tensor cube has a dimension 1 of 0"},
    {"extent -1", [](GgufImage& i) { tensor(i, "cube").extents[0] = UINT64_MAX; }, "more than 1099511627776 elements"},
    {"product wraps to 0", [](GgufImage& i) { tensor(i, "cube").extents = {uint64_t{1} << 32, uint64_t{1} << 32}; }, "more than 1099511627776 elements"},
    {"product wraps to 4", [](GgufImage& i) { tensor(i, "cube").extents = {(uint64_t{1} << 62) + 1, 4}; }, "more than 1099511627776 elements"},
    {"product 2^63", [](GgufImage& i) { tensor(i, "cube").extents = {uint64_t{1} << 31, uint64_t{1} << 32}; }, "more than 1099511627776 elements"},
    {"bytes beyond the file", [](GgufImage& i) { tensor(i, "cube").extents = {uint64_t{1} << 20, uint64_t{1} << 20}; }, "tensor cube ends at byte"},
    {"row no multiple of a block", [](GgufImage& i) { tensor(i, "token_embd.weight").extents = {31, 2}; }, "tensor token_embd.weight has rows of 31 elements"},
    {"row no multiple of a super-block", [](GgufImage& i) { tensor(i, "blk.0.attn_q.weight").extents = {128, 2}; }, "not a multiple of the 256"},
    {"tensor type 4, removed", [](GgufImage& i) { i.tensors[0].type = 4; }, "tensor token_embd.weight has type 4 (unknown)"},
    {"tensor type of another reader", [](GgufImage& i) { i.tensors[0].type = 23; }, "type 23 (IQ4_XS), which is not supported"},
    {"tensor type -1", [](GgufImage& i) { i.tensors[0].type = UINT32_MAX; }, "has type 4294967295 (unknown)"},
    {"offset off the alignment", [](GgufImage& i) { i.tensors[1].offset = 97; }, "has offset 97, not a multiple of the alignment 32"},
    {"offset 2^63", [](GgufImage& i) { i.tensors[1].offset = uint64_t{1} << 63; }, "tensor blk.0.attn_q.weight ends at byte 9223372036854775808"},
    {"offset + bytes wraps", [](GgufImage& i) { i.tensors[1].offset = UINT64_MAX - 31; }, "tensor blk.0.attn_q.weight ends at byte"},
    {"last tensor one block beyond", [](GgufImage& i) { i.data.resize(288 + 23); }, "tensor cube ends at byte 288 + 24 of the data, which has 311"},
    {"no data at all", [](GgufImage& i) { i.data.clear(); }, "which has 0"},
    {"overlap", [](GgufImage& i) { i.tensors[1].offset = 64; }, "tensor blk.0.attn_q.weight overlaps tensor token_embd.weight"},
    {"the same place twice", [](GgufImage& i) { i.tensors[3].offset = 256; }, "overlaps"},

    {"split.count huge", [](GgufImage& i) { i.keys.push_back(scalar_key("split.count", 4, raw<uint32_t>(100'000))); }, "split.count is 100000"},
    {"split.no outside", [](GgufImage& i) { i.keys.push_back(scalar_key("split.no", 2, raw<uint16_t>(1))); }, "split.no is 1 of 1"},
    {"split.count a string", [](GgufImage& i) { i.keys.push_back(scalar_key("split.count", 8, raw_string("2"))); }, "split.count is not a count"},
    {"split.count negative", [](GgufImage& i) { i.keys.push_back(scalar_key("split.count", 5, raw<int32_t>(-2))); }, "split.count is not a count"},
};

class HostileGguf : public testing::TestWithParam<Lie> {};

TEST_P(HostileGguf, IsRefusedByName) {
  GgufImage image = sample_image();
  GetParam().tell(image);
  EXPECT_THAT(error_of(image.serialize()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(Lies, HostileGguf, testing::ValuesIn(kLies));

TEST(HostileGgufFile, TheSampleItselfIsFine) {
  const auto source = open_counted(sample_image().serialize());
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ((*source)->tensors().size(), 4u);
  EXPECT_EQ((*source)->find_tensor("cube")->shape, (std::vector<int64_t>{2, 3, 2}));
  EXPECT_EQ((*source)->find_tensor("token_embd.weight")->shape, (std::vector<int64_t>{2, 32}));
  EXPECT_EQ((*source)->metadata().size(), 16u);
  GgufImage old = sample_image();
  old.version = 2;
  EXPECT_TRUE(open_counted(old.serialize()));
}

TEST(HostileGgufFile, EveryTruncationIsRefused) {
  const std::string whole = sample_image().serialize();
  const size_t needed = whole.size() - (320 - 312);  // up to the last byte of the last tensor
  for (size_t size = 0; size < needed; ++size) ASSERT_NE(error_of(whole.substr(0, size)), "accepted") << size << " bytes";
  EXPECT_TRUE(open_counted(whole.substr(0, needed)));
}

TEST(HostileGgufFile, EveryFlippedByteIsReadOrRefused) {
  const std::string whole = sample_image().serialize();
  for (size_t at = 0; at < whole.size() - 320; ++at) {
    for (const int flip : {0x01, 0x80, 0xFF}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      const auto source = open_counted(bytes);
      if (!source) {
        EXPECT_THAT(source.error().message, StartsWith("file.gguf: "));
        continue;
      }
      for (const TensorView& view : (*source)->tensors())
        EXPECT_EQ(view.bytes.size() % static_cast<size_t>(traits(view.dtype).block_bytes), 0u);
    }
  }
}

// What makes memory grow most per byte of file: many small things.
TEST(HostileGgufFile, ManySmallThingsStayWithinTheBound) {
  GgufImage keys;
  for (int i = 0; i < 65'536; ++i) keys.keys.push_back(scalar_key(fmt::format("{}", i), 0, "\1"));
  EXPECT_TRUE(open_counted(keys.serialize()));

  GgufImage tensors;
  for (uint64_t i = 0; i < 65'536; ++i)
    tensors.tensors.push_back({.name = {fmt::format("{}", i), {}}, .extents = {1}, .type = 0, .offset = 32 * i});
  tensors.data.resize(65'536 * 32);
  EXPECT_TRUE(open_counted(tensors.serialize()));

  // A byte in the file, eight in memory: capped by the number of elements.
  GgufImage bytes;
  bytes.keys = {array_key("a", 0, limits::kGgufArrayElements, std::string(limits::kGgufArrayElements, '\1'))};
  EXPECT_TRUE(open_counted(bytes.serialize()));
  bytes.keys.push_back(array_key("b", 0, 1, "\1"));
  EXPECT_THAT(error_of(bytes.serialize()), HasSubstr("metadata b brings the elements of all arrays above"));

  GgufImage strings;
  std::string payload;
  for (int i = 0; i < 1'000'000; ++i) payload += raw_string("");
  strings.keys = {array_key("a", 8, 1'000'000, payload)};
  EXPECT_TRUE(open_counted(strings.serialize()));
}

TEST(HostileGgufFile, MetadataAboveItsBoundIsRefused) {
  GgufImage image;
  const std::string text(60u << 20, 'x');
  for (int i = 0; i < 5; ++i) image.keys.push_back(scalar_key(fmt::format("k{}", i), 8, raw_string(text)));
  EXPECT_THAT(error_of(image.serialize()), HasSubstr("metadata k4 brings the metadata above"));
}

// A part of a split model is asked for by name, and each must be what it claims.
class SplitGguf : public testing::Test {
 protected:
  static GgufImage part(uint16_t number, uint16_t count, int32_t tensors) {
    GgufImage image;
    image.keys = {scalar_key("split.no", 2, raw(number)), scalar_key("split.count", 2, raw(count)),
                  scalar_key("split.tensors.count", 5, raw(tensors))};
    image.tensors = {{.name = {fmt::format("t{}", number), {}}, .extents = {4}, .type = 0, .offset = 0}};
    image.data = std::string(16, static_cast<char>('0' + number));
    return image;
  }
  std::string open(std::string_view name) {
    auto result = open_gguf(folder_.path() / name);
    if (!result) return result.error().message;
    source_ = std::move(*result);
    return "accepted";
  }
  void write(int number, int count, const GgufImage& image) {
    folder_.write(fmt::format("m-{:05}-of-{:05}.gguf", number, count), image.serialize());
  }

  TemporaryFolder folder_;
  std::unique_ptr<WeightSource> source_;
};

TEST_F(SplitGguf, AllPartsAreOneModel) {
  for (uint16_t i = 0; i < 3; ++i) write(i + 1, 3, part(i, 3, 3));
  ASSERT_EQ(open("m-00001-of-00003.gguf"), "accepted");
  ASSERT_EQ(source_->tensors().size(), 3u);
  EXPECT_EQ(static_cast<char>(source_->find_tensor("t2")->bytes[0]), '2');
  std::filesystem::resize_file(folder_.path() / "m-00003-of-00003.gguf", 10);
  const auto intact = source_->check_intact();
  ASSERT_FALSE(intact);
  EXPECT_THAT(intact.error().message, HasSubstr("m-00003-of-00003.gguf: the file was truncated"));
}

TEST_F(SplitGguf, LiesAreNamed) {
  for (uint16_t i = 0; i < 3; ++i) write(i + 1, 3, part(i, 3, 3));
  EXPECT_THAT(open("m-00002-of-00003.gguf"), HasSubstr("this is part 2 of 3 of a split model; give the first part"));

  folder_.write("renamed.gguf", part(0, 3, 3).serialize());
  EXPECT_THAT(open("renamed.gguf"), HasSubstr("must be called NAME-00001-of-00003.gguf"));

  write(3, 3, part(1, 3, 3));
  EXPECT_THAT(open("m-00001-of-00003.gguf"), HasSubstr("m-00003-of-00003.gguf: says it is part 2 of 3, and should be part 3 of 3"));

  GgufImage duplicate = part(2, 3, 3);
  duplicate.tensors[0].name.text = "t0";
  write(3, 3, duplicate);
  EXPECT_THAT(open("m-00001-of-00003.gguf"), HasSubstr("tensor t0 is in two parts"));

  for (uint16_t i = 0; i < 3; ++i) write(i + 1, 3, part(i, 3, 4));
  EXPECT_THAT(open("m-00001-of-00003.gguf"), HasSubstr("split.tensors.count is 4, and the parts have 3 tensors"));

  std::filesystem::remove(folder_.path() / "m-00002-of-00003.gguf");
  EXPECT_THAT(open("m-00001-of-00003.gguf"), HasSubstr("m-00002-of-00003.gguf: cannot open it"));
}

TEST_F(SplitGguf, PartsTogetherHaveNoMoreTensorsThanOneFileMayHave) {
  for (uint16_t i = 0; i < 2; ++i) {
    GgufImage image = part(i, 2, 80'000);
    image.tensors.clear();
    for (uint64_t t = 0; t < 40'000; ++t)
      image.tensors.push_back({.name = {fmt::format("{}.{}", i, t), {}}, .extents = {1}, .type = 0, .offset = 32 * t});
    image.data.assign(40'000 * 32, '\0');
    write(i + 1, 2, image);
  }
  EXPECT_THAT(open("m-00001-of-00002.gguf"), HasSubstr("m-00002-of-00002.gguf: brings the tensors of all parts above 65536"));
}

}  // namespace
}  // namespace pagemill
