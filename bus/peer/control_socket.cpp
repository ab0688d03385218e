#include "bus/peer/control_socket.hpp"

#include "bus/base/fd.hpp"
#include "bus/base/log.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include <fmt/core.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace mirrorbus::peer {
namespace {

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    throw std::runtime_error(fmt::format("control socket {}: the path is longer than {} bytes",
                                         path, sizeof address.sun_path - 1));
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

base::Fd local_socket(int flags) {
  base::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!fd) base::throw_errno("making a control socket");
  return fd;
}

std::string line_of(const ControlAnswer& answer) {
  proto::Map map;
  if (answer)
    map.emplace_back("ok", *answer);
  else
    map.emplace_back("error", answer.error());
  return proto::to_json(map) + "\n";
}

}  // namespace

ControlReply::~ControlReply() {
  if (send_) send_(std::nullopt);
}

void ControlReply::operator()(ControlAnswer answer) {
  if (Send send = std::exchange(send_, nullptr)) send(std::move(answer));
}

struct ControlSocket::Impl : std::enable_shared_from_this<Impl> {
  struct Connection {
    base::Fd fd;
    std::unique_ptr<base::FdWatch> watch;
    std::string in;
    std::string out;
    std::uint64_t request = 0;  // counts them, so that an answer that comes twice is known
    bool busy = false;          // one is being answered
    bool closing = false;       // once `out` is sent
  };

  explicit Impl(base::Loop& l) : loop(l) {}

  base::Loop& loop;
  base::Fd listener;
  std::unique_ptr<base::FdWatch> accepting;
  std::map<std::uint64_t, Connection> connections;
  std::uint64_t next_id = 1;
  std::map<std::string, Verb, std::less<>> verbs;

  void accept() {
    base::Fd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) {
      if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
      base::throw_errno("accepting on the control socket");
    }
    if (connections.size() >= kMaxControlConnections) {
      const std::string line = line_of(std::unexpected("too many control connections"));
      // If even this does not fit, closing says enough.
      (void)!::send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL);
      return;
    }
    const std::uint64_t id = next_id++;
    Connection& c = connections[id];
    c.watch = std::make_unique<base::FdWatch>(
        loop, fd.get(), [this, id](bool readable, bool) { ready(id, readable); });
    c.fd = std::move(fd);
    update(c);
  }

  // Reads only while nothing is being answered or sent: nobody can make us collect requests.
  void update(Connection& c) {
    c.watch->want(!c.busy && c.out.empty() && !c.closing, !c.out.empty());
  }

  void ready(std::uint64_t id, bool readable) {
    const auto self = shared_from_this();  // a verb may end the daemon
    Connection& c = connections.at(id);
    if (readable) {
      char block[16 * 1024];
      const ssize_t got = ::recv(c.fd.get(), block, sizeof block, 0);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (got <= 0) {
        connections.erase(id);
        return;
      }
      c.in.append(block, static_cast<std::size_t>(got));
    }
    advance(id, c);
  }

  // Sends what there is to send, then takes the next request, until one of them has to wait.
  void advance(std::uint64_t id, Connection& c) {
    for (;;) {
      if (!flush(c) || (c.closing && c.out.empty())) {
        connections.erase(id);
        return;
      }
      if (c.busy || !c.out.empty() || !take_request(id, c)) break;
    }
    update(c);
  }

  // False: the other side has gone.
  static bool flush(Connection& c) {
    while (!c.out.empty()) {
      const ssize_t sent = ::send(c.fd.get(), c.out.data(), c.out.size(), MSG_NOSIGNAL);
      if (sent < 0) return errno == EAGAIN || errno == EINTR;
      c.out.erase(0, static_cast<std::size_t>(sent));
    }
    return true;
  }

  // False: there is none yet.
  bool take_request(std::uint64_t id, Connection& c) {
    const std::size_t end = c.in.find('\n');
    if (std::min(end, c.in.size()) > kMaxControlLine) {
      c.closing = true;
      c.out = line_of(std::unexpected(fmt::format("a line has at most {} bytes", kMaxControlLine)));
      return true;
    }
    if (end == std::string::npos) return false;
    const std::string line = c.in.substr(0, end);
    c.in.erase(0, end + 1);
    c.busy = true;
    run(id, ++c.request, line);
    return true;
  }

  void run(std::uint64_t id, std::uint64_t request, const std::string& line) {
    const auto value = proto::from_json(line);
    const proto::Value* const name = value ? value->find("verb") : nullptr;
    if (!name || !name->as_text()) {
      finish(id, request, std::unexpected("not a JSON object with a \"verb\""));
      return;
    }
    const auto verb = verbs.find(*name->as_text());
    if (verb == verbs.end()) {
      std::string known;
      for (const auto& [word, handler] : verbs) known += known.empty() ? word : ", " + word;
      finish(id, request,
             std::unexpected(
                 fmt::format("no verb \"{}\" here; there are: {}", *name->as_text(), known)));
      return;
    }
    ControlReply reply([weak = weak_from_this(), id, request](std::optional<ControlAnswer> answer) {
      const auto self = weak.lock();
      if (!self) return;
      // On the loop, because we may be inside advance(); and what was dropped on the way out of a
      // verb that threw is answered by what it threw, just below.
      self->loop.post([weak, id, request, answer = std::move(answer)]() mutable {
        const auto impl = weak.lock();
        if (!impl || !impl->finish(id, request,
                                   answer ? std::move(*answer)
                                          : std::unexpected("the daemon gave no answer")))
          return;
        impl->advance(id, impl->connections.at(id));
      });
    });
    try {
      verb->second(*value, std::move(reply));
    } catch (const std::exception& error) {
      finish(id, request, std::unexpected(base::describe(error)));
    }
  }

  // False: that request is not being answered any more.
  bool finish(std::uint64_t id, std::uint64_t request, const ControlAnswer& answer) {
    const auto it = connections.find(id);
    if (it == connections.end() || !it->second.busy || it->second.request != request) return false;
    it->second.busy = false;
    it->second.out = line_of(answer);
    return true;
  }
};

ControlSocket::ControlSocket(base::Loop& loop, std::string path)
    : path_(std::move(path)), impl_(std::make_shared<Impl>(loop)) {
  const sockaddr_un address = address_of(path_);
  impl_->listener = local_socket(SOCK_NONBLOCK);
  if (::unlink(path_.c_str()) != 0 && errno != ENOENT) base::throw_errno("removing old " + path_);
  if (::bind(impl_->listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
      0)
    base::throw_errno("binding control socket " + path_);
  if (::chmod(path_.c_str(), 0660) != 0) base::throw_errno("setting the mode of " + path_);
  if (::listen(impl_->listener.get(), 16) != 0) base::throw_errno("listening on " + path_);
  impl_->accepting = std::make_unique<base::FdWatch>(
      loop, impl_->listener.get(), [impl = impl_.get()](bool, bool) { impl->accept(); });
  impl_->accepting->want(true, false);
}

ControlSocket::~ControlSocket() { ::unlink(path_.c_str()); }

void ControlSocket::add(std::string verb, Verb handler) {
  impl_->verbs.insert_or_assign(std::move(verb), std::move(handler));
}

ControlClient::ControlClient(const std::string& path) : path_(path), fd_(local_socket(0)) {
  const sockaddr_un address = address_of(path);
  if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw std::runtime_error(
        fmt::format("no daemon answers at {}: {}{}", path, std::strerror(errno),
                    errno == EACCES ? " (its owner or group may ask)" : " (is it running?)"));
}

ControlAnswer ControlClient::call(const proto::Value& request, base::Duration timeout) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  const std::string line = proto::to_json(request) + "\n";
  const auto gone = [this](int error) {
    return std::runtime_error(fmt::format("the daemon behind {} went away: {}", path_,
                                          error ? std::strerror(error) : "connection closed"));
  };
  // Blocking until there is room: the daemon reads a line this short at once, or never.
  for (std::size_t at = 0; at < line.size();) {
    const ssize_t sent = ::send(fd_.get(), line.data() + at, line.size() - at, MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR) throw gone(errno);
    if (sent > 0) at += static_cast<std::size_t>(sent);
  }
  for (;;) {
    if (const std::size_t stop = received_.find('\n'); stop != std::string::npos) {
      const auto answer = proto::from_json(std::string_view(received_).substr(0, stop));
      received_.erase(0, stop + 1);
      if (const proto::Value* ok = answer ? answer->find("ok") : nullptr) return *ok;
      const proto::Value* error = answer ? answer->find("error") : nullptr;
      if (!error || !error->as_text())
        throw std::runtime_error(fmt::format("what answers at {} is no mirrorbus daemon", path_));
      return std::unexpected(*error->as_text());
    }
    if (received_.size() > kMaxControlAnswer)
      throw std::runtime_error(fmt::format("{} answers without end", path_));
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0)
      throw std::runtime_error(fmt::format("the daemon behind {} did not answer in time", path_));
    pollfd item{fd_.get(), POLLIN, 0};
    if (::poll(&item, 1, static_cast<int>(std::min<std::int64_t>(left.count(), 60'000))) <= 0)
      continue;
    char block[64 * 1024];
    const ssize_t got = ::recv(fd_.get(), block, sizeof block, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) throw gone(got < 0 ? errno : 0);
    received_.append(block, static_cast<std::size_t>(got));
  }
}

}  // namespace mirrorbus::peer
