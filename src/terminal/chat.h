// The chat in a terminal, and the answer to one prompt in a pipe.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "terminal/answer.h"

namespace pagemill {

struct ChatOptions {
  std::string model;                    // as it is shown and saved
  std::string system;
  SamplingParams sampling;
  std::filesystem::path history_file;   // empty = none is kept
};

/// Talks with the person on stdin and stdout until they leave. Both must be terminals.
Result<void> run_terminal_chat(Answerer& answerer, const ChatOptions& options);

/// Takes all of stdin as one message and writes the answer alone to stdout, with a newline at its end.
Result<void> run_piped_chat(Answerer& answerer, const ChatOptions& options);

/// "12 tokens · 85.3 tokens/s · first after 120 ms · prompt 38 tokens (20 cached)".
std::string describe(const AnswerStats& stats);

}  // namespace pagemill
