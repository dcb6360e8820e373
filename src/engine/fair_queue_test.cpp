#include "engine/fair_queue.h"

#include "base/rng.h"

namespace pagemill {
namespace {

struct FairQueueTest : testing::Test {
  FairQueue queue;
  std::vector<std::unique_ptr<Request>> requests;

  Sequence& push(uint64_t tenant, int32_t priority = 0) {
    auto& request = requests.emplace_back(std::make_unique<Request>());
    request->id = requests.size();
    request->spec.tenant = tenant;
    request->spec.priority = priority;
    Sequence& sequence = *request->choices.emplace_back(std::make_unique<Sequence>());
    sequence.request = request.get();
    queue.push(sequence);
    return sequence;
  }
  Sequence& pop() {
    Sequence& next = *queue.front();
    queue.remove(next);
    return next;
  }
};

TEST_F(FairQueueTest, FirstComeFirstServedWithinATenant) {
  Sequence &a = push(1), &b = push(1), &c = push(1);
  queue.remove(b);
  EXPECT_EQ(&pop(), &a);
  EXPECT_EQ(&pop(), &c);
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.front(), nullptr);
}

TEST_F(FairQueueTest, BetterPriorityFirst) {
  push(1, 3);
  Sequence& urgent = push(2, -1);
  EXPECT_EQ(queue.front(), &urgent);
}

TEST_F(FairQueueTest, TheTenantServedLeastIsNext) {
  for (int i = 0; i < 3; ++i) push(1), push(2);
  queue.charge_prompt(1, 100);
  EXPECT_EQ(pop().request->spec.tenant, 2u);
  for (int i = 0; i < 51; ++i) queue.charge_output(2);
  EXPECT_EQ(pop().request->spec.tenant, 1u);
}

TEST_F(FairQueueTest, IdlenessEarnsNoCredit) {
  push(1);
  queue.charge_prompt(1, 10'000);
  push(1);
  push(2);                                        // new: starts at the level of those who wait
  EXPECT_EQ(queue.service(2), 10'000u);
}

TEST_F(FairQueueTest, ServiceOfBackloggedTenantsStaysWithinTheBound) {
  // One seat: a request's whole service is charged at once. Tenant 2 sends requests ten times as large.
  SplitMix64 random(3);
  uint64_t served[3] = {}, longest = 0;
  for (int i = 0; i < 50; ++i) push(1), push(2);
  for (int i = 0; i < 5000; ++i) {
    const uint64_t tenant = pop().request->spec.tenant;
    const uint64_t cost = (tenant == 2 ? 10 : 1) * (1 + random.below(300));
    queue.charge_prompt(tenant, static_cast<int32_t>(cost));
    served[tenant] += cost;
    longest = std::max(longest, cost);
    push(tenant);
    const uint64_t apart = served[1] > served[2] ? served[1] - served[2] : served[2] - served[1];
    ASSERT_LE(apart, 2 * longest);
  }
  EXPECT_GT(served[1], 100'000u);
}

}  // namespace
}  // namespace pagemill
