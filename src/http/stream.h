// Stream: the bytes of one TCP connection, plain or through TLS.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>

namespace pagemill::http {

/// Used on its io thread alone. At most one read and one write are under way; callbacks run on the io thread, never inside
/// the call that asked for them. After close() those under way end with an error.
class Stream {
 public:
  using Written = std::function<void(const boost::system::error_code&, size_t bytes)>;
  /// The bytes are valid during the call only.
  using Received = std::function<void(const boost::system::error_code&, std::string_view bytes)>;

  virtual ~Stream() = default;
  virtual void handshake(std::function<void(const boost::system::error_code&)> done) = 0;
  virtual void read_some(Received done) = 0;
  virtual void write_some(const char* data, size_t size, Written done) = 0;
  /// Says that nothing more will be sent (FIN; with TLS close_notify). A read may be under way. `done` lives as long as
  /// the stream is needed for that.
  virtual void shutdown_send(std::function<void()> done) = 0;
  virtual void close() = 0;
};

std::unique_ptr<Stream> make_plain_stream(boost::asio::ip::tcp::socket socket);
std::unique_ptr<Stream> make_tls_stream(boost::asio::ip::tcp::socket socket, boost::asio::ssl::context& context);

}  // namespace pagemill::http
