#include "http/wakeup.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"

namespace pagemill::http {

struct Wakeup::Event {
  const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

  Event() { PM_CHECK(fd >= 0, "no eventfd: the process is out of file descriptors"); }
  Event(const Event&) = delete;
  ~Event() { ::close(fd); }
};

Wakeup::Wakeup(boost::asio::io_context& context, std::function<void()> task)
    : event_(std::make_shared<Event>()), descriptor_(context, event_->fd), task_(std::move(task)) {}

std::function<void()> Wakeup::signal() const {
  return [event = event_] {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(event->fd, &one, sizeof one);  // fails only where 2^64 - 1 signals wait already
  };
}

void Wakeup::start() {
  descriptor_.async_wait(boost::asio::posix::stream_descriptor::wait_read, [self = shared_from_this()](const boost::system::error_code& code) {
    if (code) return;
    uint64_t signals = 0;
    if (::read(self->event_->fd, &signals, sizeof signals) == sizeof signals) self->task_();
    self->start();
  });
}

void Wakeup::close() {
  if (descriptor_.is_open()) descriptor_.release();  // ends the wait; the descriptor closes with its last signal
}

}  // namespace pagemill::http
