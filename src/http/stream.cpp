#include "http/stream.h"

#include <array>

#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>

namespace pagemill::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

void close_socket(tcp::socket& socket) {
  boost::system::error_code ignored;
  socket.close(ignored);
}

class PlainStream final : public Stream {
 public:
  explicit PlainStream(tcp::socket socket) : socket_(std::move(socket)) {
    boost::system::error_code ignored;  // a socket that is already dead says so at the first read
    socket_.non_blocking(true, ignored);
  }

  void handshake(std::function<void(const boost::system::error_code&)> done) override {
    asio::post(socket_.get_executor(), [done = std::move(done)] { done({}); });
  }
  // A connection that waits holds no buffer: ten thousand idle ones would hold a lot.
  void read_some(Received done) override {
    socket_.async_wait(tcp::socket::wait_read, [this, done = std::move(done)](boost::system::error_code code) mutable {
      static thread_local std::array<char, 64 << 10> buffer;
      size_t bytes = 0;
      if (!code) bytes = socket_.read_some(asio::buffer(buffer), code);
      if (code == asio::error::would_block || code == asio::error::try_again) return read_some(std::move(done));
      done(code, std::string_view(buffer.data(), bytes));
    });
  }
  void write_some(const char* data, size_t size, Written done) override {
    socket_.async_write_some(asio::buffer(data, size), std::move(done));
  }
  void shutdown_send(std::function<void()>) override {
    boost::system::error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
  }
  void close() override { close_socket(socket_); }

 private:
  tcp::socket socket_;
};

class TlsStream final : public Stream {
 public:
  TlsStream(tcp::socket socket, asio::ssl::context& context) : stream_(std::move(socket), context) {}

  void handshake(std::function<void(const boost::system::error_code&)> done) override {
    stream_.async_handshake(asio::ssl::stream_base::server, std::move(done));
  }
  void read_some(Received done) override {
    stream_.async_read_some(asio::buffer(buffer_), [this, done = std::move(done)](const boost::system::error_code& code, size_t bytes) {
      done(code, std::string_view(buffer_.data(), bytes));
    });
  }
  void write_some(const char* data, size_t size, Written done) override {
    stream_.async_write_some(asio::buffer(data, size), std::move(done));
  }
  void shutdown_send(std::function<void()> done) override {
    stream_.async_shutdown([done = std::move(done)](const boost::system::error_code&) { done(); });
  }
  void close() override { close_socket(stream_.next_layer()); }

 private:
  asio::ssl::stream<tcp::socket> stream_;
  std::array<char, 16 << 10> buffer_;
};

}  // namespace

std::unique_ptr<Stream> make_plain_stream(tcp::socket socket) { return std::make_unique<PlainStream>(std::move(socket)); }
std::unique_ptr<Stream> make_tls_stream(tcp::socket socket, asio::ssl::context& context) {
  return std::make_unique<TlsStream>(std::move(socket), context);
}

}  // namespace pagemill::http
