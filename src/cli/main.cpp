#include "cli/command_line.h"

int main(int argc, char** argv) { return static_cast<int>(pagemill::make_command_line()->run(argc, argv)); }
