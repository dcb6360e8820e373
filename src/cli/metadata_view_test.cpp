#include "cli/metadata_view.h"

#include <gtest/gtest.h>

namespace pagemill {
namespace {

MetadataValue value(MetadataScalar scalar) { return {std::move(scalar)}; }
MetadataValue value(MetadataArray array) { return {std::move(array)}; }

TEST(MetadataView, ScalarsAreThemselves) {
  EXPECT_EQ(json::serialize(metadata_json(value(MetadataScalar(true)))), "true");
  EXPECT_EQ(json::serialize(metadata_json(value(MetadataScalar(UINT64_MAX)))), "18446744073709551615");
  EXPECT_EQ(metadata_text(value(MetadataScalar(0.00001))), "1e-05");
  EXPECT_EQ(metadata_text(value(MetadataScalar(std::string("a\nb")))), "a\\nb");
}

TEST(MetadataView, LongOnesAreShortened) {
  EXPECT_EQ(metadata_text(value(MetadataScalar(std::string(1000, 'x')))).size(), 70u + 3);
  const std::vector<int64_t> numbers(50'000, 7);
  EXPECT_EQ(metadata_text(value(MetadataArray(numbers))), "50000 × integer: 7, 7, 7, 7, 7, 7, 7, 7, …");
  EXPECT_EQ(json::serialize(metadata_json(value(MetadataArray(std::vector<bool>{true, false})))), R"({"type":"bool","count":2,"first":[true,false]})");
  EXPECT_EQ(metadata_text(value(MetadataArray(StringArray{"a", "b"}))), "2 × string: a, b");
}

TEST(MetadataView, NoEscapeSequenceGetsThrough) {
  EXPECT_EQ(metadata_text(value(MetadataScalar(std::string("\x1b]0;pwned\x07")))).find('\x1b'), std::string::npos);
  EXPECT_TRUE(valid_utf8(json::serialize(metadata_json(value(MetadataScalar(std::string("\xff\xfe")))))));
}

TEST(MetadataView, LayersAreGroupedByNameTypeAndShape) {
  const std::vector<TensorView> tensors{
      {"token_embd.weight", DType::f16, {10, 4}, {}}, {"blk.0.attn_q.weight", DType::f16, {4, 4}, {}}, {"blk.0.ffn_up.weight", DType::q8_0, {8, 32}, {}},
      {"blk.1.attn_q.weight", DType::f16, {4, 4}, {}}, {"blk.1.ffn_up.weight", DType::f16, {8, 32}, {}},
  };
  const auto groups = group_tensors(tensors);
  ASSERT_EQ(groups.size(), 4u);
  EXPECT_EQ(groups[0].name, "token_embd.weight");
  EXPECT_EQ(groups[1].name, "blk.*.attn_q.weight");
  EXPECT_EQ(groups[1].count, 2);
  EXPECT_EQ(groups[2].name, "blk.0.ffn_up.weight");
  EXPECT_EQ(groups[3].name, "blk.1.ffn_up.weight");
  EXPECT_EQ(shape_text(tensors[0]), "10 × 4");
}

}  // namespace
}  // namespace pagemill
