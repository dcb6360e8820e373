// WorkerPool: threads for work that is too long for an io thread (templates, tokenization, large JSON, grammars) and must
// not take a core from the engine: they run at lower priority and their queue is bounded.
//
// submit() and the destructor may be called from any thread that is not a worker; a task may submit further tasks.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace pagemill {

struct WorkerPoolOptions {
  int threads = 1;
  size_t queued_max = 1'024;  // tasks that wait; running ones are not counted
  int nice = 5;               // added to the process's own; 0 = same priority
};

class WorkerPool {
 public:
  explicit WorkerPool(const WorkerPoolOptions& options = {});
  /// stop(), then joins.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// False where the queue is full or the pool is stopping; the task is dropped then. A task must not throw.
  [[nodiscard]] bool submit(std::function<void()> task);
  /// Takes no more tasks; those accepted still run. Returns when the last one has ended.
  void stop();
  size_t queued() const;
  int threads() const { return static_cast<int>(threads_.size()); }

 private:
  void run(int nice);

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  std::vector<std::thread> threads_;
  size_t queued_max_;
  bool stopping_ = false;
};

}  // namespace pagemill
