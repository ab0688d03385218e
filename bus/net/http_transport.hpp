// The inside of http_connection: how one client's bytes travel, as they are or through TLS. Never
// blocks: calls have the manners of recv() and send(), and after EAGAIN wants_write() says what to
// wait for. Does not own the socket, which outlives it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

namespace mirrorbus::net {

class HttpTransport {
 public:
  virtual ~HttpTransport() = default;

  virtual ssize_t read(char* to, std::size_t size) = 0;
  // `more`: something follows at once.
  virtual ssize_t write(const char* from, std::size_t size, bool more) = 0;
  virtual ssize_t send_file(int file, off_t offset, std::size_t size) = 0;
  // Nothing more will be written: says so to the client if that can be done at once.
  virtual void finish() {}

  // Over TLS: why it has failed, for the log; empty = it has not.
  virtual std::string failure() const { return {}; }
  // Over TLS: the names of the certificate that the client has proved to hold.
  virtual std::vector<std::string> client_names() const { return {}; }

  bool wants_write() const { return wants_write_; }

 protected:
  bool wants_write_ = false;
};

std::unique_ptr<HttpTransport> plain_transport(int socket);

}  // namespace mirrorbus::net
