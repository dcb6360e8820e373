// Wakeup: runs a task on an io thread when another thread signals it, which costs that thread one write to an eventfd.
#pragma once

#include <functional>
#include <memory>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "base/result.h"

namespace pagemill::http {

/// Lives on one io thread, but for its signal.
class Wakeup : public std::enable_shared_from_this<Wakeup> {
 public:
  Wakeup(boost::asio::io_context& context, std::function<void()> task);

  /// Any thread, at any time, also when the Wakeup is gone. Signals before the task has run are one.
  std::function<void()> signal() const;
  /// Waits for signals until close().
  void start();
  void close();

 private:
  struct Event;
  std::shared_ptr<Event> event_;
  boost::asio::posix::stream_descriptor descriptor_;
  std::function<void()> task_;
};

}  // namespace pagemill::http
