#include "cli/flat_config.h"

#include <gtest/gtest.h>

namespace pagemill {
namespace {

TEST(FlatConfig, ReadsYamlAndToml) {
  const auto yaml = parse_flat_config(
      "---\n# a server\nmodel: my model.gguf  # the file\nport: 8000\nenable-prefix-caching: true\nserved-model-name:\n  - a\n  - \"b # c\"\nallowed_origins: ['x', \"y\"]\n");
  ASSERT_TRUE(yaml) << yaml.error().message;
  EXPECT_EQ(*yaml, (std::vector<FlatSetting>{{"model", {"my model.gguf"}}, {"port", {"8000"}}, {"enable-prefix-caching", {"true"}}, {"served-model-name", {"a", "b # c"}}, {"allowed-origins", {"x", "y"}}}));
  const auto toml = parse_flat_config("host = \"0.0.0.0\"\r\nport = 0\nhf-overrides = '{\"a\": 1}'\napi-key = []\n");
  ASSERT_TRUE(toml) << toml.error().message;
  EXPECT_EQ(*toml, (std::vector<FlatSetting>{{"host", {"0.0.0.0"}}, {"port", {"0"}}, {"hf-overrides", {"{\"a\": 1}"}}, {"api-key", {}}}));
}

TEST(FlatConfig, ErrorsGiveTheLine) {
  for (const char* text : {"port: 1\n[table]\n", "port: 1\nport: 2\n", "port: 1\n  host: x\n", "port: 1\nhost: {a: b}\n", "port: 1\nhost: \"x\n", "port: 1\nwords\n",
                           "port: 1\nhost: [a\n", "port: 1\nhost: \"a\" b\n", "port: 1\na.b = 1\n"}) {
    const auto settings = parse_flat_config(text);
    ASSERT_FALSE(settings) << text;
    EXPECT_TRUE(settings.error().message.starts_with("line 2: ")) << settings.error().message;
  }
  EXPECT_FALSE(parse_flat_config("- item\n"));
}

}  // namespace
}  // namespace pagemill
