#include "cli/command_line.h"

#include <gtest/gtest.h>

#include "cli/help.h"
#include "cli/output.h"

namespace pagemill {
namespace {

ExitCode run(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "pagemill");
  return make_command_line()->run(static_cast<int>(arguments.size()), arguments.data());
}

std::string stderr_of(std::vector<const char*> arguments) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(run(std::move(arguments)), ExitCode::usage);
  return testing::internal::GetCapturedStderr();
}

void every_command(const CLI::App& app, const std::function<void(const CLI::App&)>& visit) {
  visit(app);
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) every_command(*command, visit);
}

TEST(CommandLine, EveryHelpFitsTheTerminalAndSaysSomething) {
  const auto line = make_command_line();
  every_command(line->root(), [](const CLI::App& command) {
    const std::string help = render_help(command);
    EXPECT_FALSE(command.get_description().empty()) << command.get_name();
    EXPECT_NE(help.find("\nExamples:\n"), std::string::npos) << help;
    std::istringstream lines(help);
    for (std::string text; std::getline(lines, text);) EXPECT_LE(text.size(), 100u) << text;
    for (const CLI::Option* option : command.get_options()) EXPECT_FALSE(option->get_description().empty()) << option->get_name();
  });
}

TEST(CommandLine, EveryCommandWithoutSubcommandsRuns) {
  const auto line = make_command_line();
  every_command(line->root(), [&](const CLI::App& command) {
    const bool leaf = command.get_subcommands([](const CLI::App*) { return true; }).empty();
    EXPECT_EQ(line->has_function(command), leaf) << command_path(command);
  });
}

TEST(CommandLine, UnknownWordsAreNamedWithTheNearestKnownOne) {
  EXPECT_NE(stderr_of({"bnech"}).find("unknown command 'bnech': did you mean 'bench'?"), std::string::npos);
  EXPECT_NE(stderr_of({"bench", "machin"}).find("did you mean 'machine'?"), std::string::npos);
  EXPECT_NE(stderr_of({"bench", "machine", "--jsn"}).find("unknown option '--jsn': did you mean '--json'?"), std::string::npos);
  EXPECT_EQ(stderr_of({"bench", "machine", "--colour"}).find("did you mean"), std::string::npos);
  EXPECT_NE(stderr_of({"bench", "machine", "extra"}).find("unexpected argument 'extra'"), std::string::npos);
  EXPECT_NE(stderr_of({"bench", "machine", "--seconds", "soon"}).find("--seconds"), std::string::npos);
  EXPECT_NE(stderr_of({}).find("Commands:"), std::string::npos);
}

TEST(CommandLine, NearestForgivesSlipsOnly) {
  const std::vector<std::string> names{"chat", "bench", "inspect"};
  EXPECT_EQ(nearest("caht", names), "chat");
  EXPECT_EQ(nearest("inspct", names), "inspect");
  EXPECT_EQ(nearest("zebra", names), "");
  EXPECT_EQ(nearest("", names), "");
}

TEST(Output, TablesAlignByCharacters) {
  EXPECT_EQ(render_table({{"a", "bb"}, {"çç", "1"}}), "a   bb\nçç   1\n");
  EXPECT_EQ(render_table({{"模型", "1"}, {"abcd", "2"}}), "模型  1\nabcd  2\n");  // two columns each
  EXPECT_EQ(render_table({{"a", "1", "x"}, {"b", "22", "yy"}}, true), "a   1  x\nb  22  yy\n");
}

TEST(Output, NumbersKeepThreeDigits) {
  EXPECT_EQ(with_prefix(1.78e12, "op/s"), "1.78 Top/s");
  EXPECT_EQ(with_prefix(44.04e9, "B/s"), "44.0 GB/s");
  EXPECT_EQ(with_prefix(999.9e6, "B/s"), "1.00 GB/s");
  EXPECT_EQ(bytes_text(98362432), "93.8 MiB");
  EXPECT_EQ(bytes_text(512), "512 B");
}

TEST(Output, DigitsAreGrouped) {
  EXPECT_EQ(grouped_digits(0), "0");
  EXPECT_EQ(grouped_digits(-999), "-999");
  EXPECT_EQ(grouped_digits(1000), "1,000");
  EXPECT_EQ(grouped_digits(-1234567), "-1,234,567");
}

TEST(Output, PrettyJsonIsJson) {
  const json::value value = {{"a", json::array{1, 2}}, {"b", {{"c", "x\n"}}}, {"d", json::array{}}, {"e", 0.25}};
  EXPECT_EQ(pretty_json(value), "{\n  \"a\": [1,2],\n  \"b\": {\n    \"c\": \"x\\n\"\n  },\n  \"d\": [],\n  \"e\": 0.25\n}\n");
  EXPECT_EQ(*parse_json(pretty_json(value)), value);
}

}  // namespace
}  // namespace pagemill
