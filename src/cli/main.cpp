#include "chat/extractor.h"
#include "cli/command_line.h"

int main(int argc, char** argv) {
  // The server's own child, which reads one uploaded document and is confined first of all; no command for people.
  if (argc == 3 && std::string_view(argv[1]) == "extract-document") pagemill::chat::run_extractor_child(argv[2]);
  return static_cast<int>(pagemill::make_command_line()->run(argc, argv));
}
