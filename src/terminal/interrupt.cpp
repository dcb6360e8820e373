#include "terminal/interrupt.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "base/check.h"

namespace pagemill {
namespace {

int event = -1;  // what the handler writes to
struct sigaction before;

void on_signal(int) {
  const int saved = errno;
  const uint64_t one = 1;
  if (write(event, &one, sizeof one) < 0) {
    // The counter is full, and so readable already.
  }
  errno = saved;
}

}  // namespace

Interrupt::Interrupt() {
  PM_CHECK(event == -1);
  event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  PM_CHECK(event != -1);
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &before);
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &before, nullptr);
  close(event);
  event = -1;
}

int Interrupt::fd() const { return event; }

bool Interrupt::take() {
  uint64_t count = 0;
  return read(event, &count, sizeof count) == sizeof count;
}

}  // namespace pagemill
