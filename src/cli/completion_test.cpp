#include "cli/completion.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "base/test_files.h"
#include "cli/command_line.h"

namespace pagemill {
namespace {

/// What bash offers after `words`, the last of which is being typed.
std::string offered(const std::string& words) {
  const auto line = make_command_line();
  const TemporaryFolder folder;
  const std::string path = folder.path() / "completion.bash", answer = path + ".out";
  std::ofstream(path) << completion_script(line->root(), Shell::bash)
                      << "COMP_WORDS=(" << words << "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n"
                      << "compopt() { :; }\n_pagemill\nprintf '%s\\n' \"${COMPREPLY[@]}\" | sort | tr '\\n' ' '\n";
  EXPECT_EQ(std::system(("bash '" + path + "' >'" + answer + "'").c_str()), 0);
  std::ifstream file(answer);
  std::string text;
  std::getline(file, text);
  return text;
}

TEST(Completion, BashOffersCommandsOptionsAndChoices) {
  EXPECT_EQ(offered("pagemill benc"), "bench ");
  EXPECT_EQ(offered("pagemill bench mach"), "machine ");
  EXPECT_EQ(offered("pagemill bench machine --j"), "--json ");
  EXPECT_EQ(offered("pagemill completion ''"), "--help -h bash fish zsh ");
  EXPECT_EQ(offered("pagemill bench machine --seconds ''"), " ");
}

TEST(Completion, EveryOptionIsInEveryScript) {
  const auto line = make_command_line();
  const CLI::App* machine = line->root().get_subcommand("bench")->get_subcommand("machine");
  const std::string bash = completion_script(line->root(), Shell::bash), zsh = completion_script(line->root(), Shell::zsh),
                    fish = completion_script(line->root(), Shell::fish);
  for (const CLI::Option* option : machine->get_options())
    for (const std::string& name : option->get_lnames()) {
      EXPECT_NE(bash.find("--" + name), std::string::npos);
      EXPECT_NE(zsh.find("--" + name + "["), std::string::npos);
      EXPECT_NE(fish.find("-l " + name), std::string::npos);
    }
}

}  // namespace
}  // namespace pagemill
