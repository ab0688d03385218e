#include "bus/net/http_tls.hpp"

#include "bus/net/http_transport.hpp"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include <fmt/core.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <unistd.h>

namespace mirrorbus::net {
namespace {

constexpr std::size_t kLongestName = 255;
constexpr int kDeepestChain = 8;
constexpr std::size_t kRecord = 16 * 1024;

std::string last_error() {
  const unsigned long error = ERR_peek_last_error();
  char text[256] = "";
  if (error != 0) ERR_error_string_n(error, text, sizeof text);
  ERR_clear_error();
  return text;
}

// A daemon has nobody to ask.
int no_passphrase(char*, int, int, void*) { return -1; }

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kLongestName &&
         std::ranges::all_of(text, [](char c) { return c > ' ' && c < '\x7f'; });
}

std::string text_of(const ASN1_STRING* string) {
  unsigned char* utf8 = nullptr;
  const int size = string ? ASN1_STRING_to_UTF8(&utf8, string) : -1;
  if (size < 0) {
    ERR_clear_error();
    return {};
  }
  std::string text(reinterpret_cast<const char*>(utf8), static_cast<std::size_t>(size));
  OPENSSL_free(utf8);
  return text;
}

std::vector<std::string> names_of(const X509* certificate) {
  std::vector<std::string> names;
  bool has_alternatives = false;
  auto* const list = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(list); ++i) {
    int type = 0;
    const void* const value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(list, i), &type);
    if (type != GEN_DNS && type != GEN_EMAIL) continue;
    has_alternatives = true;
    std::string text = text_of(static_cast<const ASN1_STRING*>(value));
    if (is_name(text)) names.push_back(std::move(text));
  }
  GENERAL_NAMES_free(list);
  if (has_alternatives) return names;
  const X509_NAME* const subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at >= 0) {
    std::string text = text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (is_name(text)) names.push_back(std::move(text));
  }
  return names;
}

class Tls final : public HttpTransport {
 public:
  Tls(SSL_CTX* context, int socket) : ssl_(SSL_new(context)) {
    if (!ssl_ || SSL_set_fd(ssl_, socket) != 1) {
      SSL_free(ssl_);
      throw std::bad_alloc();
    }
    SSL_set_accept_state(ssl_);
  }
  ~Tls() override { SSL_free(ssl_); }
  Tls(const Tls&) = delete;
  Tls& operator=(const Tls&) = delete;

  ssize_t read(char* to, std::size_t size) override {
    return result([&](std::size_t& done) { return SSL_read_ex(ssl_, to, size, &done); });
  }
  ssize_t write(const char* from, std::size_t size, bool) override {
    return result([&](std::size_t& done) { return SSL_write_ex(ssl_, from, size, &done); });
  }
  // A retry reads the same bytes from the same offset, which is what SSL_write wants of one.
  ssize_t send_file(int file, off_t offset, std::size_t size) override {
    char block[kRecord];
    const ssize_t got = ::pread(file, block, std::min(size, sizeof block), offset);
    return got <= 0 ? got : write(block, static_cast<std::size_t>(got), false);
  }
  void finish() override {
    if (std::exchange(ended_, true) || SSL_is_init_finished(ssl_) != 1) return;
    ERR_clear_error();
    SSL_shutdown(ssl_);
  }
  std::string failure() const override { return failure_; }
  std::vector<std::string> client_names() const override {
    const X509* const certificate = SSL_get0_peer_certificate(ssl_);
    if (!certificate || SSL_get_verify_result(ssl_) != X509_V_OK) return {};
    return names_of(certificate);
  }

 private:
  template <class Call>
  ssize_t result(Call call) {
    ERR_clear_error();
    std::size_t done = 0;
    const int got = call(done);
    if (got == 1) return static_cast<ssize_t>(done);
    switch (SSL_get_error(ssl_, got)) {
      case SSL_ERROR_WANT_READ:
        wants_write_ = false;
        errno = EAGAIN;
        return -1;
      case SSL_ERROR_WANT_WRITE:
        wants_write_ = true;
        errno = EAGAIN;
        return -1;
      case SSL_ERROR_ZERO_RETURN: return 0;
      default: break;
    }
    ended_ = true;
    // Many clients just go, without saying so first: that is the end of HTTP too.
    const int reason = ERR_GET_REASON(ERR_peek_last_error());
    failure_ = last_error();
    if (failure_.empty() || reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
      failure_.clear();
      return 0;
    }
    if (const long verified = SSL_get_verify_result(ssl_); verified != X509_V_OK)
      failure_ += fmt::format(" ({})", X509_verify_cert_error_string(verified));
    errno = EPROTO;
    return -1;
  }

  SSL* ssl_;
  bool ended_ = false;
  std::string failure_;
};

}  // namespace

struct TlsContext::Impl {
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());

  Impl() {
    if (!context) throw std::bad_alloc();
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20");
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
  }
  ~Impl() { SSL_CTX_free(context); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
};

TlsContext::TlsContext(const TlsFiles& files) : impl_(std::make_unique<Impl>()) {
  using File = TlsFileError::File;
  SSL_CTX* const context = impl_->context;
  const auto fail = [](File file, const std::string& what) {
    const std::string why = last_error();
    throw TlsFileError(file, why.empty() ? what : fmt::format("{} ({})", what, why));
  };
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1)
    fail(File::Certificate, files.certificate + " cannot be read as a certificate chain in PEM");
  if (SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1)
    fail(File::Key, fmt::format("{} cannot be read as the private key, in PEM and without a "
                                "passphrase, of {}",
                                files.key, files.certificate));
  if (files.client_authorities.empty()) return;
  STACK_OF(X509_NAME)* const names = SSL_load_client_CA_file(files.client_authorities.c_str());
  if (!names || SSL_CTX_load_verify_file(context, files.client_authorities.c_str()) != 1) {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    fail(File::ClientAuthorities,
         files.client_authorities + " cannot be read as certificates in PEM");
  }
  SSL_CTX_set_client_CA_list(context, names);
  // An authority that stands in the file is one, whoever stands above it.
  X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_PARTIAL_CHAIN);
  SSL_CTX_set_verify_depth(context, kDeepestChain);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
}

TlsContext::~TlsContext() = default;

std::unique_ptr<HttpTransport> TlsContext::accept(int socket) const {
  return std::make_unique<Tls>(impl_->context, socket);
}

}  // namespace mirrorbus::net
