#include "session/session.h"

#include <semaphore>

#include "base/rng.h"
#include "support/text_support.h"
#include "text/tokenizer.h"

namespace pagemill {
namespace {

/// Takes requests and remembers cancellations; the test makes the events.
class SilentEngine final : public EngineHandle {
 public:
  Result<RequestId> submit(EngineRequest request) override {
    submitted = std::move(request);
    return RequestId{17};
  }
  void cancel(RequestId request) override { cancelled.push_back(request); }
  void end_choice(RequestId request, int32_t choice) override { ended_choices.emplace_back(request, choice); }
  std::vector<EngineModelInfo> models() const override { return {test_model_info()}; }
  EngineStats stats() const override { return {}; }
  const Clock& clock() const override { return SteadyClock::instance(); }
  void drain(TimeNs) override {}

  EngineRequest submitted;
  std::vector<RequestId> cancelled;
  std::vector<std::pair<RequestId, int32_t>> ended_choices;
};

/// What a client has seen; fails where session.h's promises are broken.
struct Client {
  std::map<int32_t, std::string> text;
  std::map<int32_t, std::vector<int32_t>> tokens;
  std::map<int32_t, std::vector<TokenLogprob>> logprobs;
  std::map<int32_t, ChoiceFinished> finished;
  std::vector<TokenLogprob> prompt_logprobs;
  std::vector<float> embedding;
  std::optional<SessionEnd> end;

  void take(const std::vector<SessionEvent>& events) {
    for (const SessionEvent& event : events) {
      EXPECT_FALSE(end) << "an event after the end";
      if (const auto* piece = std::get_if<TextEvent>(&event)) take(*piece);
      if (const auto* choice = std::get_if<ChoiceFinished>(&event)) take(*choice);
      if (const auto* prompt = std::get_if<PromptEvent>(&event)) prompt_logprobs = prompt->logprobs;
      if (const auto* values = std::get_if<SessionEmbeddingEvent>(&event)) embedding = values->values;
      if (const auto* last = std::get_if<SessionEnd>(&event)) end = *last;
    }
  }
  void take(const ChoiceFinished& event) { EXPECT_TRUE(finished.emplace(event.choice, event).second); }
  void take(const TextEvent& event) {
    EXPECT_FALSE(finished.contains(event.choice)) << "text after the choice's end";
    EXPECT_TRUE(valid_utf8(event.text));
    text[event.choice] += event.text;
    tokens[event.choice].insert(tokens[event.choice].end(), event.tokens.begin(), event.tokens.end());
    logprobs[event.choice].insert(logprobs[event.choice].end(), event.logprobs.begin(), event.logprobs.end());
  }
};

struct Talk {
  SilentEngine engine;
  std::unique_ptr<Session> session;
  Client client;

  explicit Talk(SessionRequest request) {
    if (std::holds_alternative<ChatPrompt>(request.prompt)) request.prompt = TextPrompt{"prompt"};
    auto prepared = prepare(*test_text_model(), test_model_info(), std::move(request));
    EXPECT_TRUE(prepared) << prepared.error().message;
    auto started = Session::start(engine, *test_text_model(), std::move(*prepared), std::make_shared<EventQueue>(nullptr), 5);
    EXPECT_TRUE(started);
    session = std::move(*started);
  }
  template <class Body>
  void hear(Body body) {
    std::vector<SessionEvent> out;
    session->on_event({17, 5, std::move(body)}, out);
    client.take(out);
  }
  void hear_tokens(const std::vector<int32_t>& tokens, int32_t choice = 0) { hear(TokenEvent{choice, TokenList(std::span(tokens)), {}}); }
  void hear_text(std::string_view text, int32_t choice = 0) { hear_tokens(test_tokens(text), choice); }
};

TEST(Session, TurnsTokensIntoText) {
  Talk talk({});
  EXPECT_EQ(talk.engine.submitted.prompt, test_tokens("prompt"));
  EXPECT_EQ(talk.engine.submitted.user_data, 5u);
  talk.hear_text("Hello");
  EXPECT_EQ(talk.client.text[0], "Hello") << "nothing is held back without stop strings";
  talk.hear_tokens({0xE6});
  EXPECT_EQ(talk.client.text[0], "Hello");
  EXPECT_EQ(talk.client.tokens[0].size(), 6u);
  talk.hear_tokens({0x97, 0xA5, 0xE6});
  EXPECT_EQ(talk.client.text[0], "Hello\u65e5");
  talk.hear(ChoiceEndEvent{0, FinishReason::length, -1});
  EXPECT_EQ(talk.client.text[0], "Hello\u65e5\ufffd");
  EXPECT_EQ(talk.client.finished[0].reason, FinishReason::length);
  EXPECT_FALSE(talk.session->ended());
  talk.hear(EndEvent{FinishReason::length, {}, {.prompt_tokens = 6, .output_tokens = 99}});
  EXPECT_TRUE(talk.session->ended());
  EXPECT_EQ(talk.client.end->usage.prompt_tokens, 6);
  EXPECT_EQ(talk.client.end->usage.output_tokens, 9);
  EXPECT_TRUE(talk.engine.cancelled.empty());
}

TEST(Session, AStopStringEndsTheAnswerAndTheEnginesWork) {
  Talk talk({.stop = {"END", "\n\n"}});
  talk.hear_text("one E");
  EXPECT_EQ(talk.client.text[0], "one ");
  EXPECT_TRUE(talk.engine.ended_choices.empty());
  talk.hear_text("ND and more");
  EXPECT_EQ(talk.client.text[0], "one ");
  EXPECT_EQ(talk.client.finished.at(0).stop_string, "END");
  EXPECT_EQ(talk.client.finished.at(0).reason, FinishReason::stop);
  EXPECT_EQ(talk.engine.ended_choices, (std::vector<std::pair<RequestId, int32_t>>{{17, 0}}));
  talk.hear_text("what the engine did meanwhile");
  talk.hear(ChoiceEndEvent{0, FinishReason::stop, -1});
  talk.hear(EndEvent{FinishReason::stop, {}, {.prompt_tokens = 6, .output_tokens = 40}});
  EXPECT_EQ(talk.client.end->reason, FinishReason::stop);
  EXPECT_EQ(talk.client.end->usage.output_tokens, static_cast<int32_t>(test_tokens("one E").size() + 2)) << "up to the stop string";
}

TEST(Session, OtherChoicesGoOnAfterAStopString) {
  Talk talk({.sampling = {.n = 2}, .stop = {"X"}});
  talk.hear_text("aX", 0);
  talk.hear_text("b", 1);
  EXPECT_EQ(talk.engine.ended_choices, (std::vector<std::pair<RequestId, int32_t>>{{17, 0}}));
  talk.hear_text("c", 0);
  talk.hear(ChoiceEndEvent{1, FinishReason::length, -1});
  talk.hear(EndEvent{FinishReason::length, {}, {}});
  EXPECT_TRUE(talk.engine.cancelled.empty());
  EXPECT_EQ(talk.client.text, (std::map<int32_t, std::string>{{0, "a"}, {1, "b"}}));
  EXPECT_EQ(talk.client.finished.at(0).stop_string, "X");
  EXPECT_EQ(talk.client.finished.at(1).reason, FinishReason::length);
  EXPECT_EQ(talk.client.end->reason, FinishReason::length);
}

TEST(Session, IncludesTheStopStringWhereAsked) {
  Talk talk({.stop = {"END"}, .include_stop = true});
  talk.hear_text("one E");
  EXPECT_EQ(talk.client.text[0], "one E");
  talk.hear_text("ND and more");
  EXPECT_EQ(talk.client.text[0], "one END");
}

TEST(Session, StopStringsBeginAfterMinTokens) {
  Talk talk({.sampling = {.min_tokens = 4}, .stop = {"ab"}});
  talk.hear_text("abab");
  EXPECT_EQ(talk.client.text[0], "abab");
  talk.hear_text("ab");
  EXPECT_EQ(talk.client.text[0], "abab");
  EXPECT_EQ(talk.client.finished.at(0).stop_string, "ab");
}

TEST(Session, EndsEveryChoiceHoweverTheRequestEnds) {
  for (const FinishReason reason : {FinishReason::cancelled, FinishReason::deadline, FinishReason::error}) {
    Talk talk({.sampling = {.n = 2}, .stop = {"never"}});
    talk.hear_text("nev", 1);
    talk.hear(EndEvent{reason, {ErrorCode::internal, "broken", {}}, {}});
    EXPECT_EQ(talk.client.text[1], "nev") << "held back until now";
    EXPECT_EQ(talk.client.finished.at(0).reason, reason);
    EXPECT_EQ(talk.client.finished.at(1).reason, reason);
    EXPECT_EQ(talk.client.end->reason, reason);
    EXPECT_EQ(talk.client.end->error.message, "broken");
    talk.hear_text("nothing after the end", 0);
  }
}

TEST(Session, ShowsControlTokensOnlyWhereAsked) {
  const int32_t control = test_text_model()->stop_tokens().front();
  for (const bool skip : {true, false}) {
    Talk talk({.skip_special_tokens = skip});
    talk.hear_tokens({'a', control, 'b'});
    EXPECT_EQ(talk.client.text[0].size(), skip ? 2u : 2 + test_text_model()->tokenizer().token_bytes(control).size());
  }
}

TEST(Session, EchoPutsThePromptFirst) {
  Talk talk({.sampling = {.n = 2}, .echo = true});
  talk.hear_text(" and on", 1);
  talk.hear(ChoiceEndEvent{0, FinishReason::stop, 2});
  EXPECT_EQ(talk.client.text[1], "prompt and on");
  EXPECT_EQ(talk.client.text[0], "prompt");
  EXPECT_TRUE(talk.client.tokens[0].empty());
  EXPECT_EQ(talk.client.finished.at(0).stop_token, 2);
}

TEST(Session, EchoAloneScoresThePrompt) {
  Talk talk({.sampling = {.max_tokens = 0, .prompt_logprobs = 0}, .echo = true});
  EXPECT_EQ(talk.engine.submitted.sampling.max_tokens, 0);
  talk.hear(PromptLogprobsEvent{1, std::vector<TokenLogprob>(5)});
  talk.hear(ChoiceEndEvent{0, FinishReason::length, -1});
  talk.hear(EndEvent{FinishReason::length, {}, {.prompt_tokens = 6}});
  EXPECT_EQ(talk.client.text[0], "prompt");
  EXPECT_TRUE(talk.client.tokens[0].empty());
  EXPECT_EQ(talk.client.prompt_logprobs.size(), 5u);
  EXPECT_EQ(talk.client.finished.at(0).reason, FinishReason::length);
  EXPECT_EQ(talk.client.end->usage.output_tokens, 0);
}

TEST(Session, GivesEmbeddings) {
  Talk talk({.embedding = true});
  EXPECT_TRUE(talk.engine.submitted.pooled_embedding);
  talk.hear(EmbeddingEvent{{0.6f, 0.8f}});
  talk.hear(ChoiceEndEvent{});
  talk.hear(EndEvent{});
  EXPECT_EQ(talk.client.embedding.size(), 2u);
  EXPECT_TRUE(talk.client.finished.empty());
  EXPECT_TRUE(talk.client.end);
}

TEST(Session, CancelsWhenItGoesAway) {
  Talk talk({});
  talk.session.reset();
  EXPECT_EQ(talk.engine.cancelled, (std::vector<RequestId>{17}));
  Talk ended({});
  ended.hear(EndEvent{});
  ended.session.reset();
  EXPECT_TRUE(ended.engine.cancelled.empty());
}

/// The same text as merged tokens, as single bytes, or a mixture.
std::vector<int32_t> random_tokenization(SplitMix64& rng, const std::string& text) {
  std::vector<int32_t> tokens;
  for (size_t at = 0; at < text.size();) {
    const size_t length = 1 + rng.below(12);
    const std::string piece = text.substr(at, length);
    // The encoder replaces broken UTF-8, so only whole characters are left to it.
    if (rng.below(2) && valid_utf8(piece)) {
      const auto merged = test_tokens(piece);
      tokens.insert(tokens.end(), merged.begin(), merged.end());
    } else {
      for (const char byte : piece) tokens.push_back(static_cast<uint8_t>(byte));
    }
    at += length;
  }
  return tokens;
}

// However the tokens and the events are cut: the same text, the same stop string, tokens and log-probabilities aligned.
TEST(Session, IsTheSameForEverySplit) {
  SplitMix64 rng(42);
  const std::vector<std::string> words = {"the", " thing", "in", "\n", "\u65e5\u672c", "\U0001F600", "\xE6\x97", "\xFF", "END", "E", " a", "er"};
  int stopped = 0;
  for (int round = 0; round < 1'500; ++round) {
    std::string bytes;
    for (uint64_t i = rng.below(15); i > 0; --i) bytes += words[rng.below(words.size())];
    SessionRequest request;
    request.include_stop = rng.below(2);
    for (uint64_t i = rng.below(3); i > 0; --i) {
      std::string stop = words[rng.below(6)] + (rng.below(2) ? words[rng.below(6)] : "");
      request.stop.push_back(rng.below(8) ? stop : "\ufffd");
    }
    request.sampling.logprobs = rng.below(2) ? 0 : -1;
    std::optional<std::pair<std::string, std::string>> expected;  // text and stop string
    for (int split = 0; split < 4; ++split) {
      const auto tokens = random_tokenization(rng, bytes);
      Talk talk(request);
      for (size_t at = 0; at < tokens.size();) {
        const size_t count = std::min<size_t>(1 + rng.below(split == 0 ? 1 : 7), tokens.size() - at);
        TokenEvent event{0, TokenList(std::span(tokens).subspan(at, count)), {}};
        if (request.sampling.logprobs >= 0) for (const int32_t token : event.tokens) event.logprobs.push_back({token, 0, 1, {}});
        talk.hear(std::move(event));
        at += count;
      }
      talk.hear(ChoiceEndEvent{0, FinishReason::length, -1});
      talk.hear(EndEvent{FinishReason::length, {}, {}});
      const ChoiceFinished& finished = talk.client.finished.at(0);
      const auto result = std::pair(talk.client.text[0], finished.stop_string);
      if (!expected) expected = result;
      ASSERT_EQ(result, *expected) << testing::PrintToString(bytes);
      EXPECT_EQ(finished.reason, finished.stop_string.empty() ? FinishReason::length : FinishReason::stop);
      EXPECT_EQ(talk.client.end->usage.output_tokens, static_cast<int32_t>(talk.client.tokens[0].size()));
      if (request.sampling.logprobs >= 0) {
        ASSERT_EQ(talk.client.logprobs[0].size(), talk.client.tokens[0].size());
        for (size_t i = 0; i < talk.client.tokens[0].size(); ++i) EXPECT_EQ(talk.client.logprobs[0][i].token, talk.client.tokens[0][i]);
      }
      stopped += !finished.stop_string.empty();
    }
    // The rule, on the whole text.
    const std::string text = test_text_model()->tokenizer().decode(random_tokenization(rng, bytes));
    if (expected->second.empty()) {
      EXPECT_EQ(expected->first, text);
    } else {
      EXPECT_TRUE(text.starts_with(request.include_stop ? expected->first : expected->first + expected->second));
    }
  }
  EXPECT_GT(stopped, 500);
}

TEST(Session, TalksToAnEngine) {
  ScriptedEngineConfig config;
  config.model = test_model_info();
  config.script = repeat_user;
  const auto engine = make_scripted_engine(config);
  std::counting_semaphore<> woken(0);
  const auto queue = std::make_shared<EventQueue>([&woken] { woken.release(); });
  SessionRequest request;
  request.prompt = ChatPrompt{.messages = parse_json(R"([{"role":"user","content":"Say \u65e5\u672c END of it"}])")->as_array()};
  request.sampling.n = 3;
  request.stop = {" END"};
  auto prepared = prepare(*test_text_model(), config.model, std::move(request));
  ASSERT_TRUE(prepared) << prepared.error().message;
  auto session = Session::start(*engine, *test_text_model(), std::move(*prepared), queue, 1);
  ASSERT_TRUE(session) << session.error().message;
  Client client;
  while (!(*session)->ended()) {
    woken.acquire();
    std::vector<EngineEvent> events;
    queue->drain(events);
    std::vector<SessionEvent> out;
    for (EngineEvent& event : events) (*session)->on_event(std::move(event), out);
    client.take(out);
  }
  for (int32_t choice = 0; choice < 3; ++choice) {
    EXPECT_EQ(client.text[choice], "Say \u65e5\u672c");
    EXPECT_EQ(client.finished.at(choice).stop_string, " END");
  }
  EXPECT_EQ(client.end->reason, FinishReason::stop);
}

}  // namespace
}  // namespace pagemill
