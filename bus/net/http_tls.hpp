// What a TLS listener shows of itself and asks of its clients, read once from PEM files. Immutable:
// a renewed certificate is another TlsContext. TLS 1.2 and 1.3 with forward secrecy only; no
// renegotiation, no resumption (a client certificate is checked at every connection).
#pragma once

#include <memory>
#include <stdexcept>
#include <string>

namespace mirrorbus::net {

class HttpTransport;

struct TlsFiles {
  std::string certificate;         // the chain, the listener's own first
  std::string key;                 // without a passphrase
  std::string client_authorities;  // empty: no client certificates are asked for
};

class TlsFileError : public std::runtime_error {
 public:
  enum class File { Certificate, Key, ClientAuthorities };
  TlsFileError(File which, const std::string& what) : std::runtime_error(what), which_(which) {}
  File which() const { return which_; }

 private:
  File which_;
};

class TlsContext {
 public:
  // Throws TlsFileError.
  explicit TlsContext(const TlsFiles& files);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // For a connection just accepted; the handshake is part of the first read. A client without a
  // certificate is let in without a name, one whose certificate leads to none of the authorities is
  // not. Its names are the dNSName and rfc822Name entries of subjectAltName, or, if there are none,
  // the common name; what is not printable ASCII without spaces, or longer than 255, is no name.
  std::unique_ptr<HttpTransport> accept(int socket) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mirrorbus::net
