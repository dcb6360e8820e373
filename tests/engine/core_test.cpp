// EngineCore on the fake device: what a request's reader sees, in virtual time, one step at a time.
#include "engine/core.h"

#include <numeric>

#include "simulation/core_peer.h"
#include "simulation/fake_device.h"

namespace pagemill {
namespace {

using simulation::FakeDevice;
using simulation::FakeModel;
using simulation::Oracle;

struct Reader {
  std::shared_ptr<EventQueue> queue = std::make_shared<EventQueue>(nullptr, 64);
  std::map<int32_t, std::vector<int32_t>> tokens;       // per choice
  std::map<int32_t, ChoiceEndEvent> choice_ends;
  std::vector<TokenLogprob> scores;
  std::vector<float> embedding;
  std::vector<EndEvent> ends;

  void drain() {
    std::vector<EngineEvent> events;
    queue->drain(events);
    for (EngineEvent& event : events) {
      EXPECT_TRUE(ends.empty()) << "an event after End";
      if (auto* t = std::get_if<TokenEvent>(&event.body)) tokens[t->choice].insert(tokens[t->choice].end(), t->tokens.begin(), t->tokens.end());
      if (auto* c = std::get_if<ChoiceEndEvent>(&event.body)) choice_ends[c->choice] = *c;
      if (auto* s = std::get_if<PromptLogprobsEvent>(&event.body)) {
        EXPECT_EQ(static_cast<size_t>(s->first), scores.size() + 1);
        scores.insert(scores.end(), s->logprobs.begin(), s->logprobs.end());
      }
      if (auto* e = std::get_if<EmbeddingEvent>(&event.body)) embedding = e->values;
      if (auto* e = std::get_if<EndEvent>(&event.body)) ends.push_back(*e);
    }
  }
};

struct CoreTest : testing::TestWithParam<int> {
  FakeModel model{.vocab = 1024, .groups = {{.blocks = 64}, {.blocks = 48, .window = 40}}};
  int32_t max_num_seqs = 8, max_num_batched_tokens = 32, row_multiple = 1;
  std::vector<int32_t> step_rows;
  TimeNs max_step_ns = 0;
  EngineModelInfo info{.name = "fake", .context_max = 512, .vocab = 1024, .stop_tokens = {0}};
  ManualClock clock{1000};
  std::unique_ptr<FakeDevice> device;
  std::unique_ptr<Admission> admission;
  std::unique_ptr<EngineCore> core;

  void start() {
    device = std::make_unique<FakeDevice>(simulation::FakeDeviceConfig{.model = model, .tickets = GetParam(), .step_rows = &step_rows}, clock);
    admission = std::make_unique<Admission>(AdmissionConfig{.model = info, .max_num_seqs = max_num_seqs, .queued_requests_max = 100});
    CoreConfig config{.scheduler = {.max_num_seqs = max_num_seqs, .max_num_batched_tokens = max_num_batched_tokens, .row_multiple = row_multiple,
                                    .max_step_ns = max_step_ns},
                      .blocks = {.groups = model.groups}, .hidden = model.hidden};
    core = std::make_unique<EngineCore>(config, *admission, *device, clock);
  }
  static std::vector<int32_t> prompt(int32_t length, int32_t first = 1) {
    std::vector<int32_t> out(static_cast<size_t>(length));
    std::iota(out.begin(), out.end(), first);
    return out;
  }
  static EngineRequest request(Reader& reader, std::vector<int32_t> tokens, int32_t max_tokens) {
    EngineRequest r;
    r.prompt = std::move(tokens);
    r.sampling.max_tokens = max_tokens;
    r.sampling.seed = 7;
    r.events = reader.queue;
    return r;
  }
  RequestId submit(EngineRequest r) {
    if (!core) start();
    auto id = admission->accept(r);
    EXPECT_TRUE(id) << id.error().message;
    core->submit(*id, std::move(r), clock.now_ns());
    return *id;
  }
  void check_step() {
    ASSERT_EQ(core->blocks().audit(), "");
    for (int32_t group = 0; group < core->blocks().groups(); ++group) {
      const KvCounts counts = core->blocks().counts(group);
      ASSERT_EQ(counts.free + counts.cached + counts.live, counts.total);
    }
  }
  void run(std::vector<Reader*> readers, int steps = 100'000) {
    while (steps-- > 0 && core->step()) {
      check_step();
      for (Reader* reader : readers) reader->drain();
    }
    for (Reader* reader : readers) reader->drain();
  }
  std::vector<int32_t> alone(const std::vector<int32_t>& tokens, int32_t max_tokens, uint64_t seed, int32_t min_tokens = 0) const {
    Oracle oracle(model);
    for (const int32_t token : tokens) oracle.push(token);
    std::vector<int32_t> out;
    while (static_cast<int32_t>(out.size()) < max_tokens) {
      int32_t token = Oracle::token(oracle.context(), seed, tokens.size() + out.size(), model.vocab);
      if (token == 0 && static_cast<int32_t>(out.size()) < min_tokens) token = 1;
      if (token == 0) break;
      out.push_back(token);
      oracle.push(token);
    }
    return out;
  }
};

TEST_P(CoreTest, OneRequestSaysWhatTheModelSays) {
  Reader reader;
  submit(request(reader, prompt(100), 50));
  run({&reader});
  ASSERT_EQ(reader.ends.size(), 1u);
  EXPECT_EQ(reader.tokens[0], alone(prompt(100), 50, 7));
  EXPECT_EQ(reader.ends[0].usage.prompt_tokens, 100);
  EXPECT_TRUE(core->idle());
  EXPECT_EQ(core->requests(), 0u);
  EXPECT_EQ(admission->queued_requests(), 0);
  EXPECT_EQ(core->blocks().counts(0).live, 0);
}

TEST_P(CoreTest, ManyRequestsUnderMemoryPressureSayTheSameAsAlone) {
  std::vector<Reader> readers(24);
  std::vector<Reader*> all;
  for (size_t i = 0; i < readers.size(); ++i) {
    submit(request(readers[i], prompt(20 + 13 * static_cast<int32_t>(i), static_cast<int32_t>(1 + i % 3)), 150));
    all.push_back(&readers[i]);
  }
  run(all);
  for (size_t i = 0; i < readers.size(); ++i) {
    ASSERT_EQ(readers[i].ends.size(), 1u) << i;
    EXPECT_EQ(readers[i].tokens[0], alone(prompt(20 + 13 * static_cast<int32_t>(i), static_cast<int32_t>(1 + i % 3)), 150, 7)) << i;
  }
  EXPECT_GT(core->scheduler().preemptions(), 0u);
  EXPECT_EQ(core->blocks().counts(0).live, 0);
}

TEST_P(CoreTest, ASecondRequestFindsThePrefixCached) {
  Reader a, b;
  submit(request(a, prompt(100), 5));
  run({&a});
  submit(request(b, prompt(100), 5));
  run({&b});
  EXPECT_EQ(a.ends[0].usage.cached_tokens, 0);
  EXPECT_EQ(b.ends[0].usage.cached_tokens, 96);
  EXPECT_EQ(a.tokens, b.tokens);
}

TEST_P(CoreTest, ChoicesForkFromOnePrompt) {
  Reader reader;
  EngineRequest r = request(reader, prompt(37), 40);
  r.sampling.n = 5;
  submit(std::move(r));
  run({&reader});
  ASSERT_EQ(reader.ends.size(), 1u);
  EXPECT_EQ(reader.choice_ends.size(), 5u);
  for (int32_t i = 0; i < 5; ++i) EXPECT_EQ(reader.tokens[i], alone(prompt(37), 40, 7 + static_cast<uint64_t>(i))) << i;
}

TEST_P(CoreTest, AChoiceThatNobodyWantsEndsAlone) {
  Reader reader;
  EngineRequest r = request(reader, prompt(37), 200);
  r.sampling.n = 3;
  r.sampling.min_tokens = 200;
  const RequestId id = submit(std::move(r));
  while (reader.tokens[1].empty()) {
    core->end_choice(id, 1);                            // before its first token, also while that is on its way: ignored
    ASSERT_TRUE(core->step());
    reader.drain();
  }
  while (reader.tokens[1].size() < 10 && core->step()) reader.drain();
  core->end_choice(id, 1);
  core->end_choice(id, 1);
  core->end_choice(id, 3);
  core->end_choice(id, -1);
  core->end_choice(id + 1, 0);
  run({&reader});
  ASSERT_EQ(reader.ends.size(), 1u);
  EXPECT_EQ(reader.choice_ends.at(1).reason, FinishReason::stop);
  EXPECT_EQ(reader.tokens[1].size(), 10u) << "what was on its way is dropped";
  for (const int32_t i : {0, 2}) EXPECT_EQ(reader.tokens[i], alone(prompt(37), 200, 7 + static_cast<uint64_t>(i), 200)) << i;
  EXPECT_EQ(core->blocks().counts(0).live, 0);

  Reader single;
  const RequestId last = submit(request(single, prompt(5), 400));
  core->end_choice(last, 0);                            // before its first token: ignored
  for (int i = 0; i < 5; ++i) core->step();
  core->end_choice(last, 0);
  run({&single});
  ASSERT_EQ(single.ends.size(), 1u);
  EXPECT_EQ(single.ends[0].reason, FinishReason::stop);
  EXPECT_FALSE(single.tokens[0].empty());
}

TEST_P(CoreTest, PromptLogprobsAndEmbeddingsDoNotDependOnChunks) {
  Reader scored, pooled, filler;
  EngineRequest s = request(scored, prompt(90), 0);
  s.sampling.prompt_logprobs = 0;
  EngineRequest e = request(pooled, prompt(90), 1);
  e.pooled_embedding = true;
  submit(request(filler, prompt(90), 10));
  run({&filler});                                       // the prefix is cached, and must not be used
  submit(std::move(s));
  submit(std::move(e));
  run({&scored, &pooled});
  ASSERT_EQ(scored.scores.size(), 89u);
  Oracle oracle(model);
  for (int32_t i = 0; i < 90; ++i) {
    oracle.push(i + 1);
    if (i == 89) break;
    EXPECT_EQ(scored.scores[static_cast<size_t>(i)].logprob, Oracle::logprob(oracle.context(), i + 2)) << i;
  }
  EXPECT_EQ(scored.ends[0].reason, FinishReason::length);
  const std::vector<float> embedding = Oracle::embedding(model, prompt(90));
  ASSERT_EQ(pooled.embedding.size(), embedding.size());
  for (size_t i = 0; i < embedding.size(); ++i) EXPECT_FLOAT_EQ(pooled.embedding[i], embedding[i]) << i;
  EXPECT_EQ(pooled.ends[0].reason, FinishReason::stop);
}

TEST_P(CoreTest, CancelWorksFromEveryState) {
  max_num_seqs = 1;
  Reader running, waiting;
  const RequestId a = submit(request(running, prompt(60), 200));
  const RequestId b = submit(request(waiting, prompt(60), 200));
  for (int i = 0; i < 6; ++i) core->step();
  core->cancel(b);
  core->cancel(a);
  core->cancel(a);
  core->cancel(12345);
  run({&running, &waiting});
  ASSERT_EQ(running.ends.size(), 1u);
  ASSERT_EQ(waiting.ends.size(), 1u);
  EXPECT_EQ(running.ends[0].reason, FinishReason::cancelled);
  EXPECT_EQ(waiting.ends[0].reason, FinishReason::cancelled);
  EXPECT_EQ(core->blocks().counts(0).live, 0);
  EXPECT_EQ(admission->queued_tokens(), 0);
}

TEST_P(CoreTest, DeadlinesEndRequestsThatRunAndThatWait) {
  max_num_seqs = 1;
  Reader running, waiting;
  EngineRequest a = request(running, prompt(60), 200), b = request(waiting, prompt(60), 200);
  a.deadline_ns = 200 * kNsPerMs;
  b.deadline_ns = 100 * kNsPerMs;
  a.sampling.min_tokens = b.sampling.min_tokens = 200;
  submit(std::move(a));
  submit(std::move(b));
  run({&running, &waiting});
  EXPECT_EQ(running.ends.at(0).reason, FinishReason::deadline);
  EXPECT_EQ(waiting.ends.at(0).reason, FinishReason::deadline);
  EXPECT_GT(running.tokens[0].size(), 0u);
  EXPECT_EQ(waiting.tokens[0].size(), 0u);
}

TEST_P(CoreTest, BetterPriorityTakesThePlaceOfWorse) {
  max_num_seqs = 1;
  Reader low, high;
  EngineRequest a = request(low, prompt(40), 100), b = request(high, prompt(40, 300), 20);
  a.priority = 5;
  a.sampling.min_tokens = 100;
  submit(std::move(a));
  for (int i = 0; i < 10; ++i) core->step();
  submit(std::move(b));
  while (high.ends.empty()) {
    ASSERT_TRUE(core->step());
    high.drain();
    low.drain();
  }
  EXPECT_TRUE(low.ends.empty());
  run({&low, &high});
  EXPECT_EQ(low.ends.at(0).usage.preemptions, 1);
  EXPECT_EQ(low.tokens[0], alone(prompt(40), 100, 7, 100));
}

TEST_P(CoreTest, NobodyIsPreemptedWhereThatDoesNotHelp) {
  model.groups = {{.blocks = 40}};
  Reader best, worse, big;
  EngineRequest a = request(best, prompt(320), 100), b = request(worse, prompt(30, 400), 100), c = request(big, prompt(400, 500), 20);
  a.sampling.min_tokens = b.sampling.min_tokens = 100;
  b.priority = 5;
  submit(std::move(a));
  submit(std::move(b));
  for (int i = 0; i < 25; ++i) core->step();
  submit(std::move(c));                                 // as good as the best, and too big to run beside it
  run({&best, &worse, &big});
  EXPECT_EQ(worse.ends.at(0).usage.preemptions, 0);
  EXPECT_EQ(big.ends.size(), 1u);
}

TEST_P(CoreTest, APreemptedOneGoesOnWhileABetterOneCannotBeHelped) {
  model.groups = {{.blocks = 40}};
  max_num_seqs = 2;
  Reader best, worse, brief, big;
  EngineRequest a = request(best, prompt(320), 150), b = request(worse, prompt(30, 400), 60), c = request(brief, prompt(30, 450), 5),
                d = request(big, prompt(400, 500), 20);
  a.sampling.min_tokens = 150;
  b.sampling.min_tokens = 60;
  b.priority = 5;
  submit(std::move(a));
  submit(std::move(b));
  while (worse.tokens[0].size() < 5) {
    ASSERT_TRUE(core->step());
    best.drain();
    worse.drain();
  }
  submit(std::move(c));                                 // takes the worse one's seat
  submit(std::move(d));                                 // too big to run beside the best
  while (best.ends.empty()) {
    ASSERT_TRUE(core->step());
    check_step();
    for (Reader* reader : {&best, &worse, &brief, &big}) reader->drain();
  }
  EXPECT_TRUE(big.tokens.empty());
  EXPECT_EQ(worse.ends.size(), 1u) << "it had all the room it needed";
  run({&best, &worse, &brief, &big});
  EXPECT_GE(worse.ends.at(0).usage.preemptions, 1);
  EXPECT_LE(worse.ends.at(0).usage.preemptions, 2) << "for the brief one's sake, not again and again for the big one's";
  EXPECT_EQ(worse.tokens[0], alone(prompt(30, 400), 60, 7, 60));
  EXPECT_EQ(big.ends.size(), 1u);
}

TEST_P(CoreTest, NobodyIsPreemptedForBlocksThatABetterOneHoldsToo) {
  model.groups = {{.blocks = 40}};
  Reader best, worse, big;
  EngineRequest a = request(best, prompt(320), 100), b = request(worse, prompt(320), 50), c = request(big, prompt(400, 500), 20);
  a.sampling.min_tokens = 100;
  b.sampling.min_tokens = 50;
  b.sampling.seed = 8;
  b.priority = 5;
  submit(std::move(a));
  for (int i = 0; i < 12; ++i) core->step();
  submit(std::move(b));                                 // shares the best one's prompt
  for (int i = 0; i < 10; ++i) core->step();
  submit(std::move(c));
  run({&best, &worse, &big});
  EXPECT_GT(worse.ends.at(0).usage.cached_tokens, 300);
  EXPECT_EQ(worse.ends.at(0).usage.preemptions, 0);
  EXPECT_EQ(big.ends.size(), 1u);
}

TEST_P(CoreTest, APrefixThatBecomesCachedLetsTheNextOneIn) {
  info.context_max = 1600;
  model.groups = {{.blocks = 100}};
  Reader a, b;
  EngineRequest first = request(a, prompt(960), 300), second = request(b, prompt(960), 5);
  first.sampling.min_tokens = 300;
  submit(std::move(first));
  submit(std::move(second));
  while (b.ends.empty()) {
    ASSERT_TRUE(core->step());
    a.drain();
    b.drain();
  }
  EXPECT_TRUE(a.ends.empty()) << "the second waited for the first one's end";
  EXPECT_GT(b.ends[0].usage.cached_tokens, 0);
  run({&a, &b});
}

TEST_P(CoreTest, ASlowReaderGetsEverythingLaterAndTogether) {
  Reader slow;
  slow.queue = std::make_shared<EventQueue>(nullptr, 2);
  EngineRequest r = request(slow, prompt(10), 120);
  r.sampling.min_tokens = 120;
  submit(std::move(r));
  while (core->step()) {
  }
  EXPECT_TRUE(core->undelivered());
  for (int i = 0; i < 10; ++i) {
    slow.drain();
    core->step();
  }
  EXPECT_EQ(slow.tokens[0], alone(prompt(10), 120, 7, 120));
  EXPECT_EQ(slow.ends.size(), 1u);
  EXPECT_FALSE(core->undelivered());
  EXPECT_EQ(core->requests(), 0u);
}

TEST_P(CoreTest, AFailedDeviceEndsEveryRequestOnce) {
  std::vector<Reader> readers(12);
  std::vector<Reader*> all;
  for (Reader& reader : readers) {
    submit(request(reader, prompt(50), 100));
    all.push_back(&reader);
  }
  for (int i = 0; i < 5; ++i) core->step();
  device->break_down();
  run(all);
  for (Reader& reader : readers) {
    ASSERT_EQ(reader.ends.size(), 1u);
    EXPECT_EQ(reader.ends[0].reason, FinishReason::error);
    EXPECT_EQ(reader.ends[0].error.code, ErrorCode::io);
  }
  EXPECT_TRUE(core->failed());
}

TEST_P(CoreTest, AStepThatFailsLeavesNothingBehind) {
  std::vector<Reader> readers(12);
  std::vector<Reader*> all;
  for (Reader& reader : readers) {
    EngineRequest r = request(reader, prompt(50), 100);
    r.sampling.min_tokens = 100;
    submit(std::move(r));
    all.push_back(&reader);
  }
  for (int i = 0; i < 20; ++i) core->step();
  device->break_finish();
  run(all);
  core->step();
  for (Reader& reader : readers) EXPECT_EQ(reader.ends.at(0).reason, FinishReason::error);
  EXPECT_EQ(core->requests(), 0u);
  EXPECT_TRUE(core->idle());
}

TEST_P(CoreTest, WhatWaitsHoldsNoSamplingState) {
  max_num_seqs = 8;
  Reader running;
  submit(request(running, prompt(10), 400));
  core->step();
  std::vector<Reader> waiting(10);
  for (Reader& reader : waiting) {
    EngineRequest r = request(reader, prompt(1), 10);
    r.sampling.n = 8;
    r.sampling.bad_words.assign(128, prompt(64));
    submit(std::move(r));
  }
  for (const auto& [id, request] : CorePeer::requests(*core)) {
    if (request->started) continue;
    for (const auto& choice : request->choices) EXPECT_FALSE(choice->sampling) << id;
  }
  EXPECT_EQ(admission->queued_requests(), 80) << "a choice counts like a request";
  std::vector<Reader*> all = {&running};
  for (Reader& reader : waiting) all.push_back(&reader);
  run(all);
  for (Reader& reader : waiting) {
    ASSERT_EQ(reader.ends.size(), 1u);
    for (int32_t i = 0; i < 8; ++i) EXPECT_EQ(reader.tokens[i], alone(prompt(1), 10, 7 + static_cast<uint64_t>(i))) << i;
  }
  EXPECT_EQ(admission->queued_requests(), 0);
}

TEST_P(CoreTest, BiasThatLeavesNoTokenIsNotCalledAConstraint) {
  Reader reader;
  EngineRequest r = request(reader, prompt(10), 10);
  for (int32_t token = 0; token < model.vocab; ++token) r.sampling.logit_bias.emplace_back(token, -std::numeric_limits<float>::infinity());
  submit(std::move(r));
  run({&reader});
  EXPECT_EQ(reader.ends.at(0).error.code, ErrorCode::invalid_argument);
  EXPECT_NE(reader.ends[0].error.message.find("logit_bias"), std::string::npos) << reader.ends[0].error.message;
}

TEST_P(CoreTest, DeadlinesOfEndedRequestsAreForgotten) {
  start();
  for (int i = 0; i < 1000; ++i) {
    Reader reader;
    EngineRequest r = request(reader, prompt(3), 1);
    r.deadline_ns = clock.now_ns() + 3600 * kNsPerSecond;
    submit(std::move(r));
    run({&reader});
  }
  EXPECT_LT(CorePeer::deadlines(*core), 100u);
}

TEST_P(CoreTest, ShutDownHandsOverEveryEnd) {
  std::vector<Reader> readers(12);
  for (Reader& reader : readers) {
    reader.queue = std::make_shared<EventQueue>(nullptr, 2);
    EngineRequest r = request(reader, prompt(50), 100);
    r.sampling.min_tokens = 100;
    submit(std::move(r));
  }
  for (int i = 0; i < 40; ++i) core->step();
  core->shut_down();
  for (Reader& reader : readers) {
    reader.drain();
    ASSERT_EQ(reader.ends.size(), 1u);
    const auto expected = alone(prompt(50), 100, 7, 100);
    EXPECT_TRUE(std::equal(reader.tokens[0].begin(), reader.tokens[0].end(), expected.begin()));
  }
}

/// Allows token 5 alone, `good` times; then nothing, or an error.
class Fussy final : public TokenConstraint {
 public:
  Fussy(int32_t good, bool fails) : good_(good), fails_(fails) {}
  Result<void> fill_mask(std::span<uint32_t> mask) override {
    std::fill(mask.begin(), mask.end(), 0u);
    if (good_ > 0) mask[0] = 1u << 5;
    if (good_ <= 0 && fails_) return fail(ErrorCode::invalid_argument, "this grammar is a labyrinth");
    return {};
  }
  Result<void> accept(int32_t token) override {
    --good_;
    return token == 5 ? Result<void>{} : fail(ErrorCode::internal, "not a 5");
  }
  void rollback(int32_t count) override { good_ += count; }
  bool may_end() const override { return false; }
  std::unique_ptr<TokenConstraint> clone() const override { return std::make_unique<Fussy>(*this); }

 private:
  int32_t good_;
  bool fails_;
};

TEST_P(CoreTest, AConstraintThatFailsEndsItsOwnRequestAlone) {
  Reader stuck, broken, free;
  EngineRequest a = request(stuck, prompt(20), 50), b = request(broken, prompt(20), 50);
  a.constraint = std::make_shared<Fussy>(4, false);
  b.constraint = std::make_shared<Fussy>(4, true);
  submit(std::move(a));
  submit(std::move(b));
  submit(request(free, prompt(20), 50));
  run({&stuck, &broken, &free});
  for (Reader* reader : {&stuck, &broken}) {
    EXPECT_EQ(reader->ends.at(0).reason, FinishReason::error);
    EXPECT_EQ(reader->tokens[0], std::vector<int32_t>(4, 5));
  }
  EXPECT_EQ(broken.ends[0].error.message, "this grammar is a labyrinth");
  EXPECT_EQ(free.tokens[0], alone(prompt(20), 50, 7));
  EXPECT_EQ(core->blocks().counts(0).live, 0);
}

/// Steps of 2 ms and 20 µs a row, limited to 10 ms: 350 rows beside an answer, five times the limit where there is none.
TEST_P(CoreTest, APromptIsReadInLongStepsUntilAnAnswerIsUnderWay) {
  model.groups = {{.blocks = 1200}};
  info.context_max = 9000;
  max_num_batched_tokens = 4000;
  max_step_ns = 10 * kNsPerMs;
  Reader alone_reader, answer, beside;
  const auto longest = [&](int64_t steps) {
    TimeNs longest_ns = 0, before = clock.now_ns();
    for (; steps > 0 && core->step(); --steps) {
      longest_ns = std::max(longest_ns, clock.now_ns() - before);
      before = clock.now_ns();
    }
    return longest_ns;
  };
  model.vocab = info.vocab = 10'000;
  submit(request(alone_reader, prompt(8000), 1));
  EXPECT_GT(longest(INT64_MAX), 25 * kNsPerMs);
  // Every token of this answer waits for the one before: with two steps under way every other step has no row of it.
  EngineRequest slow = request(answer, prompt(20), 400);
  slow.constraint = std::make_shared<Fussy>(400, false);
  submit(std::move(slow));
  longest(10);
  submit(request(beside, prompt(8000, 2), 1));
  EXPECT_LE(longest(25), 11 * kNsPerMs);
  answer.drain();
  EXPECT_TRUE(answer.ends.empty()) << "the answer ended before the prompt was read: nothing was shown";
}

/// A prompt that does not fit is cut where the step's rows, those of answers included, fill the device's tiles.
TEST_P(CoreTest, APromptIsCutWhereTheDevicesTilesEnd) {
  max_num_batched_tokens = 50;
  row_multiple = 16;
  Reader alone_reader, answer, beside;
  submit(request(alone_reader, prompt(100), 1));
  run({&alone_reader});
  EXPECT_EQ(step_rows, (std::vector<int32_t>{48, 48, 4}));
  step_rows.clear();
  submit(request(answer, prompt(10, 5), 30));
  core->step();
  submit(request(beside, prompt(100, 2), 1));
  run({&answer, &beside});
  EXPECT_EQ(std::count(step_rows.begin(), step_rows.end(), 48), 2) << "one row of the answer and 47 of the prompt, twice";
  EXPECT_EQ(answer.tokens[0], alone(prompt(10, 5), 30, 7));
}

TEST_P(CoreTest, SaltsKeepPromptsApart) {
  Reader a, b;
  submit(request(a, prompt(100), 5));
  run({&a});
  EngineRequest other = request(b, prompt(100), 5);
  other.cache_salt = 1;
  submit(std::move(other));
  run({&b});
  EXPECT_EQ(b.ends.at(0).usage.cached_tokens, 0);
  EXPECT_EQ(a.tokens, b.tokens);
}

TEST_P(CoreTest, AReaderThatLeavesAMegabyteUnreadIsCancelled) {
  info.context_max = 40'000;
  model.groups = {{.blocks = 2'600}};
  Reader absent;
  EngineRequest r = request(absent, prompt(10), 39'900);
  r.sampling.min_tokens = 39'900;
  r.sampling.logprobs = 0;
  submit(std::move(r));
  while (core->step()) {
  }
  for (int i = 0; i < 5; ++i, core->step()) absent.drain();
  EXPECT_EQ(absent.ends.at(0).reason, FinishReason::cancelled);
  EXPECT_LT(absent.tokens[0].size(), 30'000u);
}

TEST_P(CoreTest, AReaderThatClosedItsQueueHoldsUpNothing) {
  Reader gone;
  gone.queue = std::make_shared<EventQueue>(nullptr, 2);
  gone.queue->close();
  submit(request(gone, prompt(10), 100));
  run({&gone});
  EXPECT_TRUE(core->idle());
  EXPECT_FALSE(core->undelivered());
  EXPECT_EQ(core->requests(), 0u);
}

TEST_P(CoreTest, QueueBoundsAndContextAreCheckedAtSubmit) {
  start();
  Reader reader;
  auto too_long = admission->accept(request(reader, prompt(500), 100));
  ASSERT_FALSE(too_long);
  EXPECT_EQ(too_long.error().code, ErrorCode::context_too_long);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(admission->accept(request(reader, prompt(5), 5)));
  auto full = admission->accept(request(reader, prompt(5), 5));
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ErrorCode::resource_exhausted);
  EXPECT_EQ(admission->queued_requests(), 100);
}

INSTANTIATE_TEST_SUITE_P(Tickets, CoreTest, testing::Values(1, 2));

}  // namespace
}  // namespace pagemill
