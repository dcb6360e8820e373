#include "session/scripted_engine.h"

#include <map>
#include <semaphore>

#include "base/rng.h"

namespace pagemill {
namespace {

/// A queue with a reader that can wait.
class Reader {
 public:
  explicit Reader(size_t capacity = 4096) {
    queue_ = std::make_shared<EventQueue>([this] { woken_.release(); }, capacity);
  }
  const std::shared_ptr<EventQueue>& queue() const { return queue_; }

  /// Events until `ends` requests have ended.
  std::vector<EngineEvent> read_until_ends(size_t ends) {
    std::vector<EngineEvent> events;
    size_t seen = 0;
    while (seen < ends) {
      woken_.acquire();
      const size_t before = events.size();
      queue_->drain(events);
      for (size_t i = before; i < events.size(); ++i) seen += std::holds_alternative<EndEvent>(events[i].body);
    }
    queue_->drain(events);
    return events;
  }

 private:
  std::counting_semaphore<> woken_{0};
  std::shared_ptr<EventQueue> queue_;
};

struct Heard {
  std::map<int32_t, std::vector<int32_t>> tokens;  // by choice
  std::map<int32_t, ChoiceEndEvent> choice_ends;
  std::optional<EndEvent> end;
};

/// By user_data; fails where a promise of handle.h is broken.
std::map<uint64_t, Heard> hear(const std::vector<EngineEvent>& events) {
  std::map<uint64_t, Heard> heard;
  for (const EngineEvent& event : events) {
    Heard& h = heard[event.user_data];
    EXPECT_FALSE(h.end) << "an event after the end";
    if (const auto* tokens = std::get_if<TokenEvent>(&event.body)) {
      EXPECT_FALSE(h.choice_ends.contains(tokens->choice));
      auto& list = h.tokens[tokens->choice];
      list.insert(list.end(), tokens->tokens.begin(), tokens->tokens.end());
    } else if (const auto* choice = std::get_if<ChoiceEndEvent>(&event.body)) {
      EXPECT_TRUE(h.choice_ends.emplace(choice->choice, *choice).second);
    } else if (const auto* end = std::get_if<EndEvent>(&event.body)) {
      h.end = *end;
    }
  }
  return heard;
}

ScriptedEngineConfig config(std::vector<int32_t> answer = {}) {
  ScriptedEngineConfig config;
  config.model = {.name = "test", .context_max = 1000, .vocab = 300, .stop_tokens = {2}};
  if (!answer.empty()) config.script = [answer](const EngineRequest&) { return ScriptedAnswer{.tokens = answer}; };
  return config;
}

EngineRequest request(const Reader& reader, std::vector<int32_t> prompt, uint64_t user_data = 0) {
  EngineRequest request;
  request.prompt = std::move(prompt);
  request.events = reader.queue();
  request.user_data = user_data;
  return request;
}

Heard ask(ScriptedEngineConfig engine_config, SamplingParams sampling = {}, std::vector<int32_t> prompt = {5, 6}) {
  Reader reader;
  const auto engine = make_scripted_engine(std::move(engine_config));
  auto r = request(reader, std::move(prompt));
  r.sampling = std::move(sampling);
  EXPECT_TRUE(engine->submit(std::move(r)));
  return hear(reader.read_until_ends(1))[0];
}

TEST(ScriptedEngine, RepeatsThePromptByDefault) {
  const Heard heard = ask(config(), {}, {7, 8, 9});
  EXPECT_EQ(heard.tokens.at(0), (std::vector<int32_t>{7, 8, 9}));
  EXPECT_EQ(heard.choice_ends.at(0).reason, FinishReason::stop);
  EXPECT_EQ(heard.end->reason, FinishReason::stop);
  EXPECT_EQ(heard.end->usage.prompt_tokens, 3);
  EXPECT_EQ(heard.end->usage.output_tokens, 3);
}

TEST(ScriptedEngine, EndsWhereAnEngineWould) {
  EXPECT_EQ(ask(config({4, 5, 6}), {.max_tokens = 2}).tokens.at(0).size(), 2u);
  EXPECT_EQ(ask(config({4, 5, 6}), {.max_tokens = 2}).end->reason, FinishReason::length);
  EXPECT_EQ(ask(config({4, 5, 6}), {.max_tokens = 3}).end->reason, FinishReason::length);
  EXPECT_EQ(ask(config({4, 5, 6}), {.max_tokens = 4}).end->reason, FinishReason::stop);
  const Heard eos = ask(config({4, 2, 6}));
  EXPECT_EQ(eos.tokens.at(0), (std::vector<int32_t>{4}));
  EXPECT_EQ(eos.choice_ends.at(0).stop_token, 2);
  EXPECT_EQ(eos.end->usage.output_tokens, 2);
  EXPECT_EQ(ask(config({4, 2, 6}), {.ignore_eos = true}).tokens.at(0).size(), 3u);
  EXPECT_EQ(ask(config({4, 2, 6}), {.stop_token_ids = {4}}).choice_ends.at(0).stop_token, 4);
  EXPECT_EQ(ask(config({4, 5, 6}), {.max_tokens = 0}).choice_ends.at(0).reason, FinishReason::length);
  EXPECT_EQ(ask(config(std::vector<int32_t>(5000, 4))).tokens.at(0).size(), 998u) << "the context";
}

TEST(ScriptedEngine, GivesEveryChoiceItsEnd) {
  const Heard heard = ask(config({4, 5}), {.n = 3});
  EXPECT_EQ(heard.tokens.size(), 3u);
  EXPECT_EQ(heard.choice_ends.size(), 3u);
  EXPECT_EQ(heard.end->usage.output_tokens, 6);
}

TEST(ScriptedEngine, MakesUpLogprobsAndEmbeddings) {
  Reader reader;
  const auto engine = make_scripted_engine(config({4, 5}));
  auto scored = request(reader, {7, 8, 9});
  scored.sampling.logprobs = 2;
  scored.sampling.prompt_logprobs = 0;
  ASSERT_TRUE(engine->submit(scored));
  const auto events = reader.read_until_ends(1);
  const auto& prompt = std::get<PromptLogprobsEvent>(events[0].body);
  ASSERT_EQ(prompt.logprobs.size(), 2u);
  EXPECT_EQ(prompt.logprobs[1].token, 9);
  const auto& first = std::get<TokenEvent>(events[1].body);
  ASSERT_EQ(first.logprobs.size(), first.tokens.size());
  EXPECT_EQ(first.logprobs[0].top.size(), 2u);

  auto embedded = request(reader, {7, 8, 9});
  embedded.pooled_embedding = true;
  ASSERT_TRUE(engine->submit(embedded));
  const auto pair = reader.read_until_ends(1);
  ASSERT_EQ(pair.size(), 2u);
  double squares = 0;
  for (const float value : std::get<EmbeddingEvent>(pair[0].body).values) squares += static_cast<double>(value) * value;
  EXPECT_NEAR(squares, 1, 1e-5);
}

TEST(ScriptedEngine, EndsAChoiceThatNobodyWants) {
  Reader reader;
  ScriptedEngineConfig paced = config();
  paced.script = [](const EngineRequest&) { return ScriptedAnswer{.tokens = std::vector<int32_t>(900, 4), .per_token_ns = 10'000}; };
  const auto engine = make_scripted_engine(paced);
  auto r = request(reader, {1});
  r.sampling.n = 2;
  const RequestId id = *engine->submit(r);
  while (engine->stats().output_tokens == 0) std::this_thread::yield();
  engine->end_choice(id, 0);
  engine->end_choice(id, 7);
  engine->end_choice(id + 1, 0);
  const Heard one = hear(reader.read_until_ends(1))[0];
  EXPECT_LT(one.tokens.at(0).size(), 900u);
  EXPECT_EQ(one.tokens.at(1).size(), 900u);
  EXPECT_EQ(one.choice_ends.size(), 2u);

  const RequestId both = *engine->submit(r);
  while (engine->stats().running == 0) std::this_thread::yield();
  engine->end_choice(both, 1);
  engine->end_choice(both, 0);
  const Heard none = hear(reader.read_until_ends(1))[0];
  EXPECT_EQ(none.choice_ends.size(), 2u);
  EXPECT_EQ(none.end->reason, FinishReason::stop);
}

TEST(ScriptedEngine, FailsWhenToldTo) {
  ScriptedEngineConfig failing = config();
  failing.script = [](const EngineRequest&) {
    return ScriptedAnswer{.tokens = {4, 5}, .reason = FinishReason::error, .error = {ErrorCode::internal, "The device is gone.", {}}};
  };
  const Heard heard = ask(failing);
  EXPECT_EQ(heard.tokens.at(0).size(), 2u);
  EXPECT_TRUE(heard.choice_ends.empty());
  EXPECT_EQ(heard.end->reason, FinishReason::error);
  EXPECT_EQ(heard.end->error.message, "The device is gone.");
}

TEST(ScriptedEngine, RefusesWhatAnEngineWould) {
  Reader reader;
  ScriptedEngineConfig slow = config();
  slow.running_max = 1;
  slow.queued_max = 2;
  slow.script = [](const EngineRequest&) { return ScriptedAnswer{.tokens = {4}, .first_token_ns = 3600 * kNsPerSecond}; };
  const auto engine = make_scripted_engine(slow);
  const auto code = [&](EngineRequest r) {
    const auto result = engine->submit(std::move(r));
    return result ? std::string("accepted") : std::string(to_string(result.error().code)) + " " + result.error().field;
  };
  EXPECT_EQ(code(request(reader, {})), "invalid_argument prompt");
  EXPECT_EQ(code(request(reader, {300})), "invalid_argument prompt");
  EXPECT_EQ(code(request(reader, {-1})), "invalid_argument prompt");
  EXPECT_EQ(code(request(reader, std::vector<int32_t>(1000, 1))), "context_too_long input_tokens");
  auto other = request(reader, {1});
  other.model = "other";
  EXPECT_EQ(code(other), "not_found model");
  EXPECT_EQ(code(request(reader, {1}, 1)), "accepted");
  while (engine->stats().running == 0) std::this_thread::yield();
  EXPECT_EQ(code(request(reader, {1}, 2)), "accepted");
  EXPECT_EQ(code(request(reader, {1}, 3)), "accepted");
  EXPECT_EQ(code(request(reader, {1})), "resource_exhausted ");
  EXPECT_EQ(engine->stats().rejected, 6u);
  engine->drain(engine->clock().now_ns() + 3600 * kNsPerSecond);
  EXPECT_EQ(code(request(reader, {1})), "unavailable ");
  EXPECT_EQ(engine->stats().state, EngineState::draining);
  engine->drain(engine->clock().now_ns());
  for (const auto& [user_data, heard] : hear(reader.read_until_ends(3))) EXPECT_EQ(heard.end->reason, FinishReason::cancelled);
}

TEST(ScriptedEngine, IsUnavailableWhileLoading) {
  Reader reader;
  ScriptedEngineConfig loading = config();
  loading.load_ns = 3600 * kNsPerSecond;
  const auto engine = make_scripted_engine(loading);
  EXPECT_EQ(engine->submit(request(reader, {1})).error().code, ErrorCode::unavailable);
  EXPECT_EQ(engine->stats().state, EngineState::loading);
}

TEST(ScriptedEngine, EndsRequestsAtTheirDeadlineRunningOrWaiting) {
  Reader reader;
  ScriptedEngineConfig slow = config();
  slow.running_max = 1;
  slow.script = [](const EngineRequest&) { return ScriptedAnswer{.tokens = {4}, .first_token_ns = 3600 * kNsPerSecond}; };
  const auto engine = make_scripted_engine(slow);
  for (const uint64_t i : {1, 2}) {
    auto r = request(reader, {1}, i);
    r.deadline_ns = engine->clock().now_ns() + 2 * kNsPerMs;
    ASSERT_TRUE(engine->submit(r));
  }
  for (const auto& [user_data, heard] : hear(reader.read_until_ends(2))) EXPECT_EQ(heard.end->reason, FinishReason::deadline);
}

TEST(ScriptedEngine, TokensPileUpBehindAFullRing) {
  Reader reader(2);
  ScriptedEngineConfig paced = config();
  std::vector<int32_t> tokens(500);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = 3 + static_cast<int32_t>(i % 290);
  paced.script = [&](const EngineRequest&) { return ScriptedAnswer{.tokens = tokens, .per_token_ns = 20'000}; };
  const auto engine = make_scripted_engine(paced);
  ASSERT_TRUE(engine->submit(request(reader, {1})));
  std::this_thread::sleep_for(std::chrono::milliseconds(15));
  const auto events = reader.read_until_ends(1);
  EXPECT_LT(events.size(), tokens.size());
  EXPECT_EQ(hear(events)[0].tokens.at(0), tokens);
}

TEST(ScriptedEngine, EndsEverythingWhenItGoesAway) {
  Reader reader(2);
  {
    ScriptedEngineConfig slow = config(std::vector<int32_t>(900, 4));
    slow.running_max = 3;
    const auto engine = make_scripted_engine(slow);
    for (uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(engine->submit(request(reader, {1}, i)));
  }
  const auto heard = hear(reader.read_until_ends(10));
  EXPECT_EQ(heard.size(), 10u);
}

TEST(ScriptedEngine, KeepsItsPromisesUnderLoadFromManyThreads) {
  ScriptedEngineConfig busy = config();
  busy.script = [](const EngineRequest& r) {
    const int32_t kind = r.prompt[0] % 3;
    return ScriptedAnswer{.tokens = std::vector<int32_t>(static_cast<size_t>(r.prompt[0]), 7), .first_token_ns = kind * 50'000, .per_token_ns = kind * 3'000};
  };
  busy.running_max = 64;
  const auto engine = make_scripted_engine(busy);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Reader reader(64);
      SplitMix64 rng(t);
      std::map<uint64_t, int32_t> lengths;
      std::vector<RequestId> ids;
      for (uint64_t i = 0; i < 300; ++i) {
        const auto length = static_cast<int32_t>(1 + rng.below(200));
        const auto id = engine->submit(request(reader, {length, 3}, i));
        ASSERT_TRUE(id);
        lengths[i] = length;
        ids.push_back(*id);
        if (rng.below(3) == 0) engine->cancel(ids[rng.below(ids.size())]);
      }
      int finished = 0;
      for (const auto& [i, heard] : hear(reader.read_until_ends(300))) {
        const size_t tokens = heard.tokens.empty() ? 0 : heard.tokens.at(0).size();
        if (heard.end->reason == FinishReason::stop) {
          EXPECT_EQ(tokens, static_cast<size_t>(lengths[i]));
          ++finished;
        } else {
          EXPECT_EQ(heard.end->reason, FinishReason::cancelled);
          EXPECT_LE(tokens, static_cast<size_t>(lengths[i]));
        }
      }
      EXPECT_GE(finished, 100);
    });
  }
  for (std::thread& thread : threads) thread.join();
  while (engine->stats().running + engine->stats().waiting > 0) std::this_thread::yield();
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.finished_stop + stats.finished_cancelled, 1200u);
  EXPECT_EQ(stats.waiting_prompt_tokens, 0);
}

}  // namespace
}  // namespace pagemill
