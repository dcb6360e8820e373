#include "format/gguf.h"

#include <gtest/gtest.h>

#include "base/test_files.h"
#include "format/gguf_writer.h"

namespace pagemill {
namespace {

GgufHeader sample_header() {
  GgufHeader header;
  header.set("general.architecture", std::string("llama"));
  header.set("a.count", uint64_t{7});
  header.set("a.big", uint64_t{1} << 40);
  header.set("a.negative", int64_t{-3});
  header.set("a.ratio", 0.1);
  header.set("a.exact", 0.5);
  header.set("a.flag", true);
  header.set("a.words", StringArray{"one", "", "drei\n"});
  header.set("a.ids", std::vector<int64_t>{1, -2, 3});
  header.set("a.sizes", std::vector<uint64_t>{1, uint64_t{1} << 50});
  header.set("a.scores", std::vector<double>{0.25, -1.5});
  header.set("a.flags", std::vector<bool>{true, false, true});
  header.add_tensor("embd.weight", DType::f32, {3, 4});
  header.add_tensor("bias", DType::f16, {5});
  header.add_tensor("q.weight", DType::q4_k, {2, 512});
  return header;
}

std::vector<std::vector<std::byte>> sample_data(const GgufHeader& header) {
  std::vector<std::vector<std::byte>> data;
  for (const auto& tensor : header.tensors()) {
    std::vector<std::byte> bytes(tensor.bytes);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + data.size());
    data.push_back(std::move(bytes));
  }
  return data;
}

TEST(Gguf, ReadsWhatTheWriterWrote) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "m.gguf";
  const GgufHeader header = sample_header();
  const auto data = sample_data(header);
  {
    auto writer = GgufWriter::create(path, header);
    ASSERT_TRUE(writer) << writer.error().message;
    for (const auto& bytes : data) {
      // In two pieces: a caller streams.
      ASSERT_TRUE(writer->append(std::span(bytes).first(bytes.size() / 2)));
      ASSERT_TRUE(writer->append(std::span(bytes).subspan(bytes.size() / 2)));
    }
    EXPECT_FALSE(std::filesystem::exists(path)) << "the file appears only when it is whole";
    ASSERT_TRUE(writer->finish());
  }
  EXPECT_EQ(folder.count(), 1u);
  EXPECT_EQ(folder.read("m.gguf"), gguf_bytes(header, data));

  const auto source = open_gguf(path);
  ASSERT_TRUE(source) << source.error().message;
  const WeightSource& s = **source;
  EXPECT_EQ(s.name(), path.string());
  EXPECT_TRUE(s.check_intact());
  EXPECT_EQ(s.required_string("general.architecture").value(), "llama");
  EXPECT_EQ(s.required_integer("a.count", 0, 10).value(), 7);
  EXPECT_EQ(s.required_integer("a.big", 0, INT64_MAX).value(), int64_t{1} << 40);
  EXPECT_EQ(s.required_integer("a.negative", -5, 5).value(), -3);
  EXPECT_EQ(s.number("a.ratio").value(), 0.1);
  EXPECT_EQ(s.number("a.exact").value(), 0.5);
  EXPECT_EQ(s.boolean("a.flag").value(), true);
  EXPECT_EQ(*s.strings("a.words").value(), (StringArray{"one", "", "drei\n"}));
  EXPECT_EQ(s.integers("a.ids", -9, 9).value(), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(s.integers("a.sizes", 0, INT64_MAX).value(), (std::vector<int64_t>{1, int64_t{1} << 50}));
  EXPECT_EQ(s.numbers("a.scores").value(), (std::vector<double>{0.25, -1.5}));
  const auto& flags = std::get<MetadataArray>(s.find_metadata("a.flags")->value);
  EXPECT_EQ(std::get<std::vector<bool>>(flags), (std::vector<bool>{true, false, true}));
  EXPECT_EQ(s.metadata().size(), 12u);
  EXPECT_EQ(s.metadata()[1].key, "a.count");

  ASSERT_EQ(s.tensors().size(), 3u);
  for (size_t i = 0; i < data.size(); ++i) {
    const TensorView* tensor = s.find_tensor(header.tensors()[i].name);
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor, &s.tensors()[i]);
    EXPECT_EQ(tensor->dtype, header.tensors()[i].dtype);
    EXPECT_EQ(tensor->shape, header.tensors()[i].shape);
    EXPECT_TRUE(std::equal(tensor->bytes.begin(), tensor->bytes.end(), data[i].begin(), data[i].end()));
  }
  EXPECT_EQ(s.find_tensor("bia"), nullptr);
  EXPECT_EQ(s.find_metadata("a.coun"), nullptr);
}

TEST(Gguf, TypedAccessNamesFileAndKey) {
  const TemporaryFolder folder;
  const GgufHeader header = sample_header();
  const auto path = folder.write("m.gguf", gguf_bytes(header, sample_data(header)));
  const auto source = open_gguf(path);
  ASSERT_TRUE(source) << source.error().message;
  const WeightSource& s = **source;
  const auto expect_error = [&](const auto& result, const std::string& key, const std::string& problem) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::invalid_file);
    EXPECT_EQ(result.error().message, path.string() + ": metadata " + key + " " + problem);
  };
  expect_error(s.integer("a.count", 0, 6), "a.count", "is 7, outside 0 … 6");
  expect_error(s.integer("a.negative", 0, 6), "a.negative", "is -3, outside 0 … 6");
  expect_error(s.integer("a.words", 0, 6), "a.words", "should be an integer and is an array of strings");
  expect_error(s.integer("a.exact", 0, 6), "a.exact", "should be an integer and is a number");
  expect_error(s.string("a.flag"), "a.flag", "should be a string and is a boolean");
  expect_error(s.boolean("a.count"), "a.count", "should be a boolean and is an integer");
  expect_error(s.number("general.architecture"), "general.architecture", "should be a number and is a string");
  expect_error(s.strings("a.ids"), "a.ids", "should be an array of strings and is an array of integers");
  expect_error(s.integers("a.ids", 0, 9), "a.ids[1]", "is -2, outside 0 … 9");
  expect_error(s.numbers("a.flags"), "a.flags", "should be an array of numbers and is an array of booleans");
  expect_error(s.required_integer("b", 0, 6), "b", "is missing");
  expect_error(s.required_string("b"), "b", "is missing");
  EXPECT_EQ(s.integer("b", 0, 6).value(), std::nullopt);
  EXPECT_EQ(s.strings("b").value(), nullptr);
}

TEST(GgufWriter, LeavesNothingWhenAbandoned) {
  const TemporaryFolder folder;
  const GgufHeader header = sample_header();
  const auto data = sample_data(header);
  {
    auto writer = GgufWriter::create(folder.path() / "m.gguf", header);
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->append(data[0]));
  }
  EXPECT_EQ(folder.count(), 0u);
}

TEST(GgufWriter, RefusesWhatTheDiskCannotHold) {
  const TemporaryFolder folder;
  GgufHeader header;
  header.add_tensor("huge", DType::f32, {1 << 14, 1 << 26});
  const auto writer = GgufWriter::create(folder.path() / "m.gguf", header);
  ASSERT_FALSE(writer);
  EXPECT_THAT(writer.error().message, testing::HasSubstr("the disk has"));
  EXPECT_EQ(folder.count(), 0u);
}

TEST(GgufWriter, NamesAFolderThatIsNotThere) {
  const TemporaryFolder folder;
  const auto writer = GgufWriter::create(folder.path() / "none" / "m.gguf", sample_header());
  ASSERT_FALSE(writer);
  EXPECT_THAT(writer.error().message, testing::HasSubstr("none"));
}

}  // namespace
}  // namespace pagemill
