#include "terminal/line_editor.h"
#include "terminal/utf8_decoder.h"

#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <cwchar>

#include <fmt/format.h>

namespace pagemill {
namespace {

constexpr int kHistoryLines = 1000;
constexpr size_t kPasteCharacters = 1 << 20;
constexpr const char* kPasteOn = "\x1b[?2004h";   // the terminal then brackets what is pasted
constexpr const char* kPasteOff = "\x1b[?2004l";

volatile sig_atomic_t window_changed = 0;
void on_window_change(int) { window_changed = 1; }

std::string to_utf8(const wchar_t* text, size_t length) {
  std::string out;
  char bytes[MB_LEN_MAX];
  std::mbstate_t state{};
  for (size_t i = 0; i < length; ++i) {
    const size_t n = std::wcrtomb(bytes, text[i], &state);
    if (n != static_cast<size_t>(-1)) out.append(bytes, n);
  }
  return out;
}

std::wstring to_wide(const std::string& text) {
  std::wstring out;
  Utf8Decoder decoder;
  wchar_t character = 0;
  for (const char byte : text)
    for (bool whole = decoder.add(static_cast<unsigned char>(byte), character); whole; whole = decoder.more(character)) out += character;
  return out;
}

}  // namespace

struct LineEditor::State {
  Interrupt& interrupt;
  std::filesystem::path history_file;
  EditLine* edit = nullptr;
  HistoryW* history = nullptr;
  std::wstring prompt;
  std::wstring last;            // the newest history entry
  Utf8Decoder decoder;
  End end = End::line;          // why the reading of characters ended
  struct sigaction window_before = {};

  explicit State(Interrupt& ctrl_c) : interrupt(ctrl_c) {}

  static State& of(EditLine* edit) {
    void* data = nullptr;
    el_wget(edit, EL_CLIENTDATA, &data);
    return *static_cast<State*>(data);
  }

  /// libedit's source of characters: 1 = there is one, 0 = the end, -1 = an error.
  static int next_character(EditLine* edit, wchar_t* character) {
    State& self = of(edit);
    for (;;) {
      if (self.decoder.more(*character)) return 1;
      if (window_changed != 0) {
        window_changed = 0;
        el_resize(edit);
      }
      pollfd fds[] = {{STDIN_FILENO, POLLIN, 0}, {self.interrupt.fd(), POLLIN, 0}};
      if (poll(fds, 2, -1) < 0) continue;
      if (self.interrupt.take()) {
        self.end = End::interrupted;
        return -1;
      }
      if ((fds[0].revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
      unsigned char byte = 0;
      const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (n <= 0) {
        self.end = End::closed;
        return n < 0 ? -1 : 0;
      }
      if (self.decoder.add(byte, *character)) return 1;
    }
  }

  /// Called at the terminal's "a paste begins": takes everything up to its end as text, newlines included.
  static unsigned char paste(EditLine* edit, wint_t) {
    static const std::wstring kEnd = L"\x1b[201~";
    std::wstring text;
    wchar_t character = 0;
    while (text.size() < kPasteCharacters && !text.ends_with(kEnd)) {
      if (el_wgetc(edit, &character) != 1) return CC_EOF;
      text += character == L'\r' ? L'\n' : character == L'\t' ? L' ' : character;
    }
    if (text.ends_with(kEnd)) text.resize(text.size() - kEnd.size());
    std::erase_if(text, [](wchar_t c) { return c != L'\n' && (c < 0x20 || (c >= 0x7f && c < 0xa0)); });
    if (!text.empty() && el_winsertstr(edit, text.c_str()) != 0) return CC_ERROR;
    return CC_REFRESH;
  }

  static wchar_t* show_prompt(EditLine* edit) { return of(edit).prompt.data(); }
};

LineEditor::LineEditor(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<LineEditor>> LineEditor::open(Interrupt& interrupt, std::filesystem::path history_file) {
  auto state = std::make_unique<State>(interrupt);
  state->history_file = std::move(history_file);
  state->edit = el_init("pagemill", stdin, stdout, stderr);
  state->history = history_winit();
  if (state->edit == nullptr || state->history == nullptr) return fail(ErrorCode::io, "The terminal cannot be set up for editing lines.");
  HistEventW event;
  history_w(state->history, &event, H_SETSIZE, kHistoryLines);
  history_w(state->history, &event, H_SETUNIQUE, 1);
  if (!state->history_file.empty()) history_w(state->history, &event, H_LOAD, state->history_file.c_str());

  EditLine* edit = state->edit;
  el_wset(edit, EL_CLIENTDATA, state.get());
  el_wset(edit, EL_EDITOR, L"emacs");
  el_wset(edit, EL_HIST, history_w, state->history);
  el_wset(edit, EL_PROMPT, State::show_prompt);
  el_wset(edit, EL_GETCFN, State::next_character);
  el_wset(edit, EL_ADDFN, L"pagemill-paste", L"Insert a paste", State::paste);
  static constexpr const wchar_t* kKeys[][2] = {
      {L"\x1b[200~", L"pagemill-paste"}, {L"\x1b[3~", L"ed-delete-next-char"},
      {L"\x1b[1;5C", L"em-next-word"},   {L"\x1b[1;5D", L"ed-prev-word"},
      {L"\x1b[H", L"ed-move-to-beg"},    {L"\x1b[F", L"ed-move-to-end"},
      {L"\x1b[1~", L"ed-move-to-beg"},   {L"\x1b[4~", L"ed-move-to-end"},
      {L"^R", L"em-inc-search-prev"},    {L"^W", L"ed-delete-prev-word"},
  };
  for (const auto& key : kKeys) el_wset(edit, EL_BIND, key[0], key[1], nullptr);

  struct sigaction action = {};
  action.sa_handler = on_window_change;
  sigemptyset(&action.sa_mask);
  sigaction(SIGWINCH, &action, &state->window_before);
  return std::unique_ptr<LineEditor>(new LineEditor(std::move(state)));
}

LineEditor::~LineEditor() {
  sigaction(SIGWINCH, &state_->window_before, nullptr);
  el_end(state_->edit);
  history_wend(state_->history);
}

LineEditor::End LineEditor::read(const std::string& prompt, std::string& line) {
  state_->prompt = to_wide(prompt);
  state_->end = End::line;
  std::fputs(kPasteOn, stdout);
  std::fflush(stdout);
  // Before the prompt shows, so that no key meets the terminal's line mode: that would take a Ctrl-D for itself.
  el_wset(state_->edit, EL_PREP_TERM, 1);
  int length = 0;
  const wchar_t* text = el_wgets(state_->edit, &length);
  std::fputs(kPasteOff, stdout);
  std::fflush(stdout);
  line.clear();
  if (state_->end == End::interrupted) return End::interrupted;
  if (text == nullptr || length <= 0) return End::closed;
  line = to_utf8(text, static_cast<size_t>(length));
  if (line.ends_with('\n')) line.pop_back();
  return End::line;
}

void LineEditor::remember(const std::string& text) {
  const std::wstring wide = to_wide(text);
  if (wide.empty() || wide == state_->last) return;
  state_->last = wide;
  HistEventW event;
  history_w(state_->history, &event, H_ENTER, wide.c_str());
  if (state_->history_file.empty()) return;
  const mode_t mask = umask(0077);
  history_w(state_->history, &event, H_SAVE, state_->history_file.c_str());
  umask(mask);
}

void use_utf8_locale() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace pagemill
