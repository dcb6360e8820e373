// The server behind TLS: a certificate made for the test, OpenSSL as the client.
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstdio>
#include <filesystem>

#include "base/test_files.h"
#include "http/client.h"
#include "http/raw_client.h"
#include "http/server.h"

namespace pagemill::http {
namespace {

using test::eventually;
using test::RawClient;

/// A self-signed certificate for 127.0.0.1 and its key, as PEM files.
class Certificate {
 public:
  Certificate() {
    EVP_PKEY* const key = EVP_EC_gen("P-256");
    X509* const certificate = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3'600);
    X509_set_pubkey(certificate, key);
    X509_NAME* const name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("127.0.0.1"), -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    X509_sign(certificate, key, EVP_sha256());
    std::FILE* file = std::fopen(certificate_file().c_str(), "w");
    PEM_write_X509(file, certificate);
    std::fclose(file);
    file = std::fopen(key_file().c_str(), "w");
    PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
  }
  std::string certificate_file() const { return folder_.path() / "certificate.pem"; }
  std::string key_file() const { return folder_.path() / "key.pem"; }

 private:
  TemporaryFolder folder_;
};

class TlsClient {
 public:
  explicit TlsClient(uint16_t port) : socket_(port), context_(SSL_CTX_new(TLS_client_method())), ssl_(SSL_new(context_)) {
    SSL_set_fd(ssl_, socket_.fd());
    connected_ = SSL_connect(ssl_) == 1;
  }
  ~TlsClient() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  bool connected() const { return connected_; }
  bool send(std::string_view bytes) { return SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size())) > 0; }
  /// Until the server ends it; `clean` says whether it did so by close_notify.
  std::string read_to_end(bool& clean) {
    std::string all;
    char buffer[16'384];
    int bytes = 0;
    while ((bytes = SSL_read(ssl_, buffer, sizeof buffer)) > 0) all.append(buffer, static_cast<size_t>(bytes));
    clean = SSL_get_error(ssl_, bytes) == SSL_ERROR_ZERO_RETURN;
    return all;
  }
  SSL* ssl() { return ssl_; }

 private:
  RawClient socket_;
  SSL_CTX* context_;
  SSL* ssl_;
  bool connected_ = false;
};

class TlsServerTest : public testing::Test {
 protected:
  void start() {
    options.port = 0;
    options.tls_certificate_file = certificate.certificate_file();
    options.tls_key_file = certificate.key_file();
    auto made = Server::listen(options);
    ASSERT_TRUE(made) << made.error().message;
    server = std::move(*made);
    server->start([](Request request, std::shared_ptr<Responder> responder) {
      responder->start(200, {});
      responder->write(request.tls ? "secret " : "plain ");
      responder->write(std::string(1 << 20, 'x').substr(0, request.path == "/large" ? 900'000 : 5));
      responder->finish();
    });
  }
  Certificate certificate;
  ServerOptions options;
  std::unique_ptr<Server> server;
};

TEST_F(TlsServerTest, AnswersAndClosesCleanly) {
  start();
  for (const char* path : {"/", "/large"}) {
    TlsClient client(server->port());
    ASSERT_TRUE(client.connected());
    client.send(std::string("GET ") + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    bool clean = false;
    const std::string all = client.read_to_end(clean);
    EXPECT_TRUE(all.starts_with("HTTP/1.1 200 OK\r\n"));
    EXPECT_NE(all.find("secret "), std::string::npos);
    EXPECT_TRUE(all.ends_with("0\r\n\r\n"));
    EXPECT_TRUE(clean);
  }
}

TEST_F(TlsServerTest, RefusesOldProtocols) {
  start();
  SSL_CTX* const context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_security_level(context, 0);
  SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION);
  RawClient socket(server->port());
  SSL* const ssl = SSL_new(context);
  SSL_set_fd(ssl, socket.fd());
  EXPECT_NE(SSL_connect(ssl), 1);
  SSL_free(ssl);
  SSL_CTX_free(context);
}

TEST_F(TlsServerTest, HalfOpenAndForeignPeersAreCutOff) {
  options.limits.header_timeout_s = 1;
  start();
  RawClient silent(server->port()), half(server->port()), plain(server->port());
  half.send("\x16\x03\x01\x02");
  plain.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  plain.read_to_end();
  silent.read_to_end();
  half.read_to_end();
  EXPECT_TRUE(eventually([&] { return server->connections() == 0; }));
  TlsClient good(server->port());
  EXPECT_TRUE(good.connected());
}

TEST_F(TlsServerTest, TheClientVerifiesTheServer) {
  start();
  Client client;
  const auto answer = client.fetch({.url = "https://127.0.0.1:" + std::to_string(server->port()) + "/"});
  ASSERT_FALSE(answer) << "nobody vouches for this certificate";
  EXPECT_EQ(answer.error().code, ErrorCode::io);
}

TEST_F(TlsServerTest, BadFilesAreNamed) {
  ServerOptions bad;
  bad.port = 0;
  bad.tls_certificate_file = certificate.certificate_file();
  EXPECT_EQ(Server::listen(bad).error().code, ErrorCode::invalid_argument);
  bad.tls_key_file = "/nonexistent/key.pem";
  EXPECT_NE(Server::listen(bad).error().message.find("/nonexistent/key.pem"), std::string::npos);
  bad.tls_key_file = certificate.certificate_file();  // not a key
  EXPECT_EQ(Server::listen(bad).error().code, ErrorCode::invalid_file);
}

}  // namespace
}  // namespace pagemill::http
