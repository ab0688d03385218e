#include "bus/net/http_transport.hpp"

#include <sys/sendfile.h>
#include <sys/socket.h>

namespace mirrorbus::net {
namespace {

class Plain final : public HttpTransport {
 public:
  explicit Plain(int socket) : socket_(socket) {}

  ssize_t read(char* to, std::size_t size) override {
    wants_write_ = false;
    return ::recv(socket_, to, size, MSG_DONTWAIT);
  }
  ssize_t write(const char* from, std::size_t size, bool more) override {
    wants_write_ = true;
    return ::send(socket_, from, size, MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0));
  }
  ssize_t send_file(int file, off_t offset, std::size_t size) override {
    wants_write_ = true;
    return ::sendfile(socket_, file, &offset, size);
  }

 private:
  const int socket_;
};

}  // namespace

std::unique_ptr<HttpTransport> plain_transport(int socket) {
  return std::make_unique<Plain>(socket);
}

}  // namespace mirrorbus::net
