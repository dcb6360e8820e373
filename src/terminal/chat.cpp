#include "terminal/chat.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iterator>

#include <fmt/format.h>

#include "terminal/chat_input.h"
#include "terminal/conversation.h"
#include "terminal/line_editor.h"
#include "terminal/terminal.h"

namespace pagemill {
namespace {

constexpr const char* kPrompt = "> ";
constexpr const char* kMorePrompt = "… ";

SessionRequest request_for(const Conversation& conversation, const SamplingParams& sampling) {
  ChatPrompt prompt;
  prompt.messages = conversation.messages();
  SessionRequest request;
  request.prompt = std::move(prompt);
  request.sampling = sampling;
  return request;
}

std::filesystem::path expand_home(const std::string& path) {
  const char* home = std::getenv("HOME");
  if (path.starts_with("~/") && home != nullptr) return std::filesystem::path(home) / path.substr(2);
  return path;
}

/// The conversation loop. One object per chat, so that commands and answers share what they change.
class TerminalChat {
 public:
  TerminalChat(Answerer& answerer, const ChatOptions& options)
      : answerer_(answerer), options_(options), sampling_(options.sampling), conversation_(options.system), style_(style_for(STDOUT_FILENO)) {}

  Result<void> run() {
    PM_ASSIGN(editor_, LineEditor::open(interrupt_, options_.history_file));
    std::printf("%s%s%s · context %d tokens\n%s/help lists the commands. Ctrl-C stops an answer, Ctrl-D quits.%s\n\n", style_.bold,
                terminal_safe(options_.model).c_str(), style_.reset, answerer_.model().context_max, style_.dim, style_.reset);
    std::string text;
    while (read_message(text)) {
      editor_->remember(text);
      const auto command = parse_chat_command(text);
      if (!command) complain(command.error());
      else if (*command && (*command)->kind == ChatCommand::Kind::exit) break;
      else if (*command) obey(**command);
      else answer(text);
    }
    return {};
  }

 private:
  /// False when the person leaves: Ctrl-D, or Ctrl-C twice at an empty prompt.
  bool read_message(std::string& text) {
    MessageReader message;
    std::string line;
    bool warned = false;
    for (;;) {
      const LineEditor::End end = editor_->read(message.open() ? kMorePrompt : kPrompt, line);
      if (end != LineEditor::End::line) std::printf("\n");
      if (end == LineEditor::End::closed) return false;
      if (end == LineEditor::End::interrupted) {
        if (warned) return false;
        warned = true;
        message.reset();
        std::printf("%sCtrl-C again or Ctrl-D quits.%s\n", style_.dim, style_.reset);
        continue;
      }
      warned = false;
      if (!message.add(line) || message.text().find_first_not_of(" \t\n") == std::string::npos) continue;
      text = message.text();
      return true;
    }
  }

  void answer(const std::string& text) {
    const NoEcho no_echo;
    conversation_.add_user(text);
    std::string answered;
    const auto stats = answerer_.answer(request_for(conversation_, sampling_), [&](std::string_view piece) {
      answered += piece;
      std::fputs(terminal_safe(piece).c_str(), stdout);
      std::fflush(stdout);
    }, interrupt_.fd());
    interrupt_.take();
    if (!answered.empty() && !answered.ends_with('\n')) std::printf("\n");
    if (!stats) {
      conversation_.drop_last();
      complain(stats.error());
      return;
    }
    if (answered.empty()) conversation_.drop_last();  // stopped before the first word: as if it had not been asked
    else conversation_.add_assistant(answered);
    std::printf("%s%s%s\n\n", style_.dim, describe(*stats).c_str(), style_.reset);
  }

  void obey(const ChatCommand& command) {
    using Kind = ChatCommand::Kind;
    switch (command.kind) {
      case Kind::help: say(std::string(chat_help())); return;
      case Kind::clear:
        conversation_.clear();
        say("The conversation begins anew.\n");
        return;
      case Kind::system: set_system(command.argument); return;
      case Kind::save: save(command.argument); return;
      case Kind::set: set(command.argument); return;
      case Kind::exit: return;
    }
  }

  void set_system(const std::string& text) {
    if (!text.empty()) conversation_.set_system(text == "none" ? "" : text);
    say(conversation_.system().empty() ? "No system prompt.\n" : "System prompt: " + conversation_.system() + "\n");
  }

  void save(const std::string& path) {
    if (path.empty()) return complain({ErrorCode::invalid_argument, "/save needs a file name.", {}});
    const auto saved = conversation_.save(expand_home(path), options_.model);
    if (!saved) return complain(saved.error());
    say("Saved to " + path + ".\n");
  }

  void set(const std::string& assignment) {
    if (!assignment.empty())
      if (const auto result = set_parameter(sampling_, assignment); !result) return complain(result.error());
    say(show_parameters(sampling_) + "\n");
  }

  void say(const std::string& text) const { std::printf("%s%s%s\n", style_.dim, terminal_safe(text).c_str(), style_.reset); }
  void complain(const Error& error) const { std::printf("%s%s%s\n\n", style_.red, terminal_safe(error.message).c_str(), style_.reset); }

  Answerer& answerer_;
  const ChatOptions& options_;
  SamplingParams sampling_;
  Conversation conversation_;
  Style style_;
  Interrupt interrupt_;
  std::unique_ptr<LineEditor> editor_;
};

}  // namespace

Result<void> run_terminal_chat(Answerer& answerer, const ChatOptions& options) {
  use_utf8_locale();
  return TerminalChat(answerer, options).run();
}

Result<void> run_piped_chat(Answerer& answerer, const ChatOptions& options) {
  std::string text;
  char block[4096];
  for (size_t n; (n = std::fread(block, 1, sizeof block, stdin)) > 0;) {
    text.append(block, n);
    if (text.size() > limits::kTextBytes) return fail(ErrorCode::invalid_argument, "The text on stdin is too long: 16 MiB at most.");
  }
  while (text.ends_with('\n')) text.pop_back();
  if (text.empty()) return fail(ErrorCode::invalid_argument, "There is no text on stdin. Without a terminal, all of stdin is the message.");
  Conversation conversation(options.system);
  conversation.add_user(text);
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  std::string last;
  PM_TRY(answerer.answer(request_for(conversation, options.sampling), [&](std::string_view piece) {
    last = terminal ? terminal_safe(piece) : std::string(piece);
    std::fputs(last.c_str(), stdout);
    std::fflush(stdout);
  }));
  if (!last.ends_with('\n')) std::fputs("\n", stdout);
  return {};
}

std::string describe(const AnswerStats& stats) {
  std::string text = fmt::format("{} token{}", stats.tokens, stats.tokens == 1 ? "" : "s");
  if (stats.tokens_per_s() > 0) text += fmt::format(" · {:.1f} tokens/s", stats.tokens_per_s());
  if (stats.tokens > 0) text += stats.first_token_s < 1 ? fmt::format(" · first after {:.0f} ms", stats.first_token_s * 1000)
                                                        : fmt::format(" · first after {:.1f} s", stats.first_token_s);
  if (stats.usage.prompt_tokens > 0) {
    text += fmt::format(" · prompt {} tokens", stats.usage.prompt_tokens);
    if (stats.usage.cached_tokens > 0) text += fmt::format(" ({} cached)", stats.usage.cached_tokens);
  }
  switch (stats.reason) {
    case FinishReason::length: return text + " · cut at the longest answer allowed";
    case FinishReason::cancelled: return text + " · stopped";
    case FinishReason::deadline: return text + " · out of time";
    case FinishReason::stop:
    case FinishReason::error: break;
  }
  return text;
}

}  // namespace pagemill
