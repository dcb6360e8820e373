// RawClient: a blocking TCP client that sends exactly the bytes it is given. For tests of what well-behaved clients never do.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

namespace pagemill::test {

class RawClient {
 public:
  /// `receive_buffer_bytes` > 0 makes the kernel's buffer small, so that a writer is soon held up.
  explicit RawClient(uint16_t port, int receive_buffer_bytes = 0) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (fd_ < 0) return;
    const int on = 1;  // each send() is a packet of its own
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (receive_buffer_bytes > 0) setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) close();
  }
  ~RawClient() { close(); }
  RawClient(RawClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)), received_(std::move(other.received_)) {}
  RawClient(const RawClient&) = delete;

  bool connected() const { return fd_ >= 0; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void shutdown_send() { shutdown(fd_, SHUT_WR); }
  /// Ends the connection by a reset instead of a FIN.
  void reset() {
    const linger hard{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close();
  }

  /// False once the peer refuses more.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  /// One read into the buffer; false at the end of the connection, on an error or after 30 s (liveness, not a bound).
  bool receive() {
    pollfd wait{fd_, POLLIN, 0};
    if (poll(&wait, 1, 30'000) <= 0) return false;
    char buffer[65'536];
    const ssize_t bytes = recv(fd_, buffer, sizeof buffer, 0);
    if (bytes <= 0) return false;
    received_.append(buffer, static_cast<size_t>(bytes));
    return true;
  }

  std::string read_until(std::string_view end) {
    size_t at = 0;
    while ((at = received_.find(end)) == std::string::npos)
      if (!receive()) return {};
    std::string out = received_.substr(0, at + end.size());
    received_.erase(0, at + end.size());
    return out;
  }
  std::string read_bytes(size_t count) {
    while (received_.size() < count)
      if (!receive()) return {};
    std::string out = received_.substr(0, count);
    received_.erase(0, count);
    return out;
  }
  /// Everything until the server closes.
  std::string read_to_end() {
    while (receive()) {}
    return std::exchange(received_, {});
  }

  /// What has been received and not read yet.
  std::string take() { return std::exchange(received_, {}); }

  struct Answer {
    int status = 0;
    std::string head, body;
  };
  /// One answer with Content-Length or chunks; status 0 if the connection ended first.
  Answer read_answer(bool head_only = false) {
    Answer answer;
    answer.head = read_until("\r\n\r\n");
    if (answer.head.size() < 12) return {};
    answer.status = std::stoi(answer.head.substr(9, 3));
    if (head_only || answer.status < 200 || answer.status == 204 || answer.status == 304) return answer;
    if (const size_t at = answer.head.find("Content-Length: "); at != std::string::npos) {
      answer.body = read_bytes(std::stoul(answer.head.substr(at + 16)));
    } else if (answer.head.find("Transfer-Encoding: chunked") != std::string::npos) {
      for (;;) {
        const std::string line = read_until("\r\n");
        if (line.empty()) return {};
        const size_t size = std::stoul(line, nullptr, 16);
        answer.body += read_bytes(size);
        read_until("\r\n");
        if (size == 0) break;
      }
    } else {
      answer.body = read_to_end();
    }
    return answer;
  }

  int fd() const { return fd_; }

 private:
  int fd_;
  std::string received_;
};

/// Waits until `condition` holds; false after 30 s (liveness, not a bound).
template <class Condition>
bool eventually(Condition condition) {
  for (int i = 0; i < 6'000; ++i) {
    if (condition()) return true;
    usleep(5'000);
  }
  return false;
}

}  // namespace pagemill::test
