#include "http/server.h"

#include <algorithm>
#include <map>
#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <fmt/format.h>

#include "base/check.h"
#include "base/log.h"
#include "http/connection.h"
#include "http/wakeup.h"

namespace pagemill::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using std::chrono::milliseconds;

constexpr milliseconds kSweepInterval{250};
/// Between attempts to accept while the process has no file descriptor left.
constexpr milliseconds kAcceptRetry{100};

Result<std::unique_ptr<asio::ssl::context>> make_tls_context(const ServerOptions& options) {
  if (options.tls_certificate_file.empty() && options.tls_key_file.empty()) return nullptr;
  if (options.tls_certificate_file.empty() || options.tls_key_file.empty())
    return fail(ErrorCode::invalid_argument, "TLS needs both a certificate and a key file");
  auto context = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
  context->set_options(asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1 | asio::ssl::context::default_workarounds);
  boost::system::error_code code;
  context->use_certificate_chain_file(options.tls_certificate_file, code);
  if (code)
    return fail(ErrorCode::invalid_file, fmt::format("the TLS certificate {} cannot be used: {}", options.tls_certificate_file, code.message()));
  context->use_private_key_file(options.tls_key_file, asio::ssl::context::pem, code);
  if (code) return fail(ErrorCode::invalid_file, fmt::format("the TLS key {} cannot be used: {}", options.tls_key_file, code.message()));
  if (SSL_CTX_check_private_key(context->native_handle()) != 1)
    return fail(ErrorCode::invalid_file, fmt::format("the TLS key {} is not that of the certificate {}", options.tls_key_file, options.tls_certificate_file));
  return context;
}

class AsioServer final : public Server {
 public:
  AsioServer(const ServerOptions& options, std::unique_ptr<asio::ssl::context> tls) : tls_(std::move(tls)) {
    shared_->options = options;
    const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    const int count = options.io_threads > 0 ? options.io_threads : std::max(1, cores / 4);
    for (int i = 0; i < count; ++i) {
      io_.push_back(std::make_shared<IoThread>());
      io_.back()->index = i;
      guards_.push_back(asio::make_work_guard(io_.back()->context));
    }
    acceptor_ = std::make_unique<tcp::acceptor>(io_[0]->context);
    retry_timer_ = std::make_unique<asio::steady_timer>(io_[0]->context);
  }

  ~AsioServer() override {
    stop_accepting();
    for (const auto& io : io_)
      asio::post(io->context, [io] {
        while (!io->connections.empty()) {
          const auto connection = *io->connections.begin();
          connection->close();
        }
        io->sweep_timer.cancel();
        for (const auto& wakeup : io->wakeups) wakeup->close();
      });
    guards_.clear();
    if (!started_) {
      for (const auto& io : io_) io->context.run();  // what was posted above holds the IoThread that holds it
      return;
    }
    for (std::thread& thread : threads_) thread.join();
  }

  Result<void> bind() {
    const std::string& host = shared_->options.host;
    const std::string where = fmt::format("{}:{}", host, shared_->options.port);
    boost::system::error_code code;
    tcp::resolver resolver(io_[0]->context);
    const auto found = resolver.resolve(host, std::to_string(shared_->options.port), tcp::resolver::passive, code);
    if (code || found.empty())
      return fail(ErrorCode::invalid_argument, fmt::format("the host {} is not an address of this machine: {}", host, code.message()), "host");
    const tcp::endpoint endpoint = *found.begin();
    acceptor_->open(endpoint.protocol(), code);
    if (!code) acceptor_->set_option(tcp::acceptor::reuse_address(true), code);
    if (!code && endpoint.address().is_v6()) acceptor_->set_option(asio::ip::v6_only(false), code);
    if (!code) acceptor_->bind(endpoint, code);
    if (!code) acceptor_->listen(asio::socket_base::max_listen_connections, code);
    if (code == asio::error::address_in_use)
      return fail(ErrorCode::io, fmt::format("{} is in use by another program: stop it, or choose another --port (0 = any free one)", where), "port");
    if (code) return fail(ErrorCode::io, fmt::format("cannot listen on {}: {}", where, code.message()), "port");
    port_ = acceptor_->local_endpoint().port();
    return {};
  }

  void start(Handler handler, HeadHandler head_handler) override {
    PM_CHECK(!started_, "a server is started once");
    started_ = true;
    shared_->handler = std::move(handler);
    shared_->head_handler = std::move(head_handler);
    shared_->on_closed = [this](const std::string& peer) { on_connection_closed(peer); };
    asio::post(io_[0]->context, [this] { accept(); });
    for (const auto& io : io_) threads_.emplace_back([io] { io->context.run(); });
  }

  uint16_t port() const override { return port_; }
  int connections() const override { return connections_; }
  int64_t unsent_bytes() const override { return shared_->unsent_bytes; }
  int io_threads() const override { return static_cast<int>(io_.size()); }
  void post(int io_thread, std::function<void()> task) override { asio::post(io_[static_cast<size_t>(io_thread)]->context, std::move(task)); }

  std::function<void()> make_wakeup(int io_thread, std::function<void()> task) override {
    const std::shared_ptr<IoThread>& io = io_[static_cast<size_t>(io_thread)];
    auto wakeup = std::make_shared<Wakeup>(io->context, std::move(task));
    asio::post(io->context, [io, wakeup] {
      io->wakeups.push_back(wakeup);
      wakeup->start();
    });
    return wakeup->signal();
  }

  void stop_accepting() override {
    if (shared_->stopping.exchange(true)) return;
    if (!started_) return;
    asio::post(io_[0]->context, [this] {
      boost::system::error_code ignored;
      acceptor_->close(ignored);
      retry_timer_->cancel();
    });
    for (const auto& io : io_)
      asio::post(io->context, [io] {
        const std::vector<std::shared_ptr<Connection>> open(io->connections.begin(), io->connections.end());
        for (const auto& connection : open) connection->close_if_idle();
      });
  }

 private:
  // ---- on io thread 0 ----

  void accept() {
    if (shared_->stopping || accepting_) return;
    if (connections_ >= shared_->options.limits.connections_max) {
      paused_ = true;  // on_connection_closed() goes on
      return;
    }
    accepting_ = true;
    const std::shared_ptr<IoThread>& io = io_[next_io_++ % io_.size()];
    acceptor_->async_accept(io->context, [this, io](const boost::system::error_code& code, tcp::socket socket) {
      // Asio runs this on the acceptor's context.
      accepting_ = false;
      if (shared_->stopping || code == asio::error::operation_aborted) return;
      if (code) return on_accept_error(code);
      exhausted_ = false;
      admit(io, std::move(socket));
      accept();
    });
  }

  /// Out of file descriptors or memory: what is open goes on, and accepting is tried again when something may be free.
  void on_accept_error(const boost::system::error_code& code) {
    const bool exhausted = code == asio::error::no_descriptors || code == boost::system::errc::too_many_files_open_in_system ||
                           code == asio::error::no_buffer_space || code == asio::error::no_memory;
    if (!exhausted) return accept();  // a client that was gone before it was accepted
    if (!exhausted_) log_warning("accepting pauses until connections end: {}", code.message());
    exhausted_ = true;
    retry_timer_->expires_after(kAcceptRetry);
    retry_timer_->async_wait([this](const boost::system::error_code& cancelled) {
      if (!cancelled) accept();
    });
  }

  void admit(const std::shared_ptr<IoThread>& io, tcp::socket socket) {
    boost::system::error_code code;
    const tcp::endpoint peer = socket.remote_endpoint(code);
    if (code) return;
    std::string address = peer.address().is_v6() && peer.address().to_v6().is_v4_mapped()
                              ? asio::ip::make_address_v4(asio::ip::v4_mapped, peer.address().to_v6()).to_string()
                              : peer.address().to_string();
    {
      std::lock_guard lock(addresses_mutex_);
      int& count = addresses_[address];
      if (count >= shared_->options.limits.connections_per_address_max) return;
      ++count;
    }
    ++connections_;
    socket.set_option(tcp::no_delay(true), code);
    auto stream = tls_ ? make_tls_stream(std::move(socket), *tls_) : make_plain_stream(std::move(socket));
    auto connection = std::make_shared<Connection>(std::move(stream), io, shared_, std::move(address), tls_ != nullptr);
    asio::post(io->context, [this, io, connection] {
      io->connections.insert(connection);
      if (shared_->stopping) return connection->close();
      connection->start();
      if (!io->sweeping) sweep(io);
    });
  }

  // ---- on any io thread ----

  void on_connection_closed(const std::string& peer) {
    {
      std::lock_guard lock(addresses_mutex_);
      if (const auto found = addresses_.find(peer); found != addresses_.end() && --found->second == 0) addresses_.erase(found);
    }
    --connections_;
    if (!shared_->stopping && paused_)
      asio::post(io_[0]->context, [this] {
        if (!paused_) return;
        paused_ = false;
        accept();
      });
  }

  /// Looks at the deadlines of one thread's connections, as long as there are any.
  void sweep(const std::shared_ptr<IoThread>& io) {
    io->sweeping = !io->connections.empty();
    if (!io->sweeping) return;
    io->sweep_timer.expires_after(kSweepInterval);
    io->sweep_timer.async_wait([this, io](const boost::system::error_code& cancelled) {
      if (cancelled) return;
      const TimeNs now = SteadyClock::instance().now_ns();
      const std::vector<std::shared_ptr<Connection>> open(io->connections.begin(), io->connections.end());
      for (const auto& connection : open) connection->sweep(now);
      sweep(io);
    });
  }

  const std::unique_ptr<asio::ssl::context> tls_;
  const std::shared_ptr<ServerShared> shared_ = std::make_shared<ServerShared>();
  std::vector<std::shared_ptr<IoThread>> io_;
  std::vector<asio::executor_work_guard<asio::io_context::executor_type>> guards_;
  std::vector<std::thread> threads_;
  std::unique_ptr<tcp::acceptor> acceptor_;
  std::unique_ptr<asio::steady_timer> retry_timer_;
  uint16_t port_ = 0;
  bool started_ = false;
  bool accepting_ = false;           // io thread 0
  bool exhausted_ = false;           // io thread 0
  size_t next_io_ = 0;               // io thread 0
  std::atomic<bool> paused_{false};
  std::atomic<int> connections_{0};
  std::mutex addresses_mutex_;
  std::map<std::string, int> addresses_;  // open connections by peer
};

}  // namespace

Result<std::unique_ptr<Server>> Server::listen(const ServerOptions& options) {
  PM_ASSIGN(auto tls, make_tls_context(options));
  auto server = std::make_unique<AsioServer>(options, std::move(tls));
  PM_TRY(server->bind());
  return std::unique_ptr<Server>(std::move(server));
}

}  // namespace pagemill::http
