// The program that the tests' servers run to read documents: what `pagemill extract-document` does, without the rest.
#include "chat/extractor.h"

int main(int argc, char** argv) {
  if (argc == 3) pagemill::chat::run_extractor_child(argv[2]);
  return 2;
}
