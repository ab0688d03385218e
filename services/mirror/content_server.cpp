#include "services/mirror/content_server.hpp"

#include "proto/content.hpp"

#include <algorithm>
#include <stdexcept>

namespace mirrorbus::mirror {
namespace {

constexpr std::size_t kChunk = 256 * 1024;

net::HttpOptions options(const peer::ListenSettings& settings, int dscp) {
  net::HttpOptions options;
  options.dscp = dscp;
  options.name = "content";
  options.listen = settings.listen;
  options.max_connections = settings.connections;
  options.max_connections_per_peer = settings.connections_per_peer;
  options.idle_timeout = settings.idle_timeout;
  return options;
}

net::HttpResponse not_held() { return net::HttpResponse::text(404, "not held here\n"); }

net::HttpResponse immutable(const proto::Hash& hash) {
  net::HttpResponse response;
  response.content_type = "application/octet-stream";
  response.etag = "\"" + to_hex(hash) + "\"";
  response.headers.emplace_back("Cache-Control", "public, max-age=31536000, immutable");
  return response;
}

// Makes the body of a POST /objects answer piece by piece, never more than a chunk in memory.
class ObjectStream {
 public:
  ObjectStream(std::vector<proto::Hash> hashes,
               std::function<std::optional<tree::ServedFile>(const proto::Hash&)> find, base::Counter& sent)
      : hashes_(std::move(hashes)), find_(std::move(find)), sent_(sent) {}

  std::optional<proto::Bytes> next() {
    proto::Bytes piece;
    piece.reserve(2 * kChunk);
    while (piece.size() < kChunk) {
      if (left_ > 0) {
        const std::size_t got = read(piece);
        // Shorter than it was: the answer cannot be finished, so it is cut off.
        if (got == 0) throw std::runtime_error("a file shrank while it was being sent");
        offset_ += got;
        left_ -= got;
        if (left_ == 0 && !file_.unchanged())
          throw std::runtime_error("a file changed while it was being sent");
        continue;
      }
      if (next_ == hashes_.size()) break;
      const proto::Hash& hash = hashes_[next_++];
      auto found = find_(hash);
      if (!found) {
        proto::append_content_gone(piece, hash);
        continue;
      }
      file_ = std::move(*found);
      offset_ = 0;
      left_ = file_.size();
      proto::append_content_header(piece, hash, left_);
    }
    sent_.add(piece.size());
    if (piece.empty()) return std::nullopt;
    return piece;
  }

 private:
  // Adds to `piece` what comes next of the file: how much, 0 if there is no more.
  std::size_t read(proto::Bytes& piece) const {
    const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(left_, kChunk));
    const std::size_t at = piece.size();
    piece.resize_and_overwrite(at + want, [&](char* bytes, std::size_t) {
      const ssize_t got = ::pread(file_.fd.get(), bytes + at, want, static_cast<off_t>(offset_));
      return at + static_cast<std::size_t>(std::max<ssize_t>(got, 0));
    });
    return piece.size() - at;
  }

  std::vector<proto::Hash> hashes_;
  std::function<std::optional<tree::ServedFile>(const proto::Hash&)> find_;
  base::Counter& sent_;
  std::size_t next_ = 0;
  tree::ServedFile file_;
  std::uint64_t offset_ = 0, left_ = 0;
};

}  // namespace

ContentServer::ContentServer(const base::Clock& clock, const peer::ListenSettings& settings,
                             base::Registry& registry, base::Log log, int dscp)
    : loop_(clock),
      sent_(
          registry.counter("mirrorbus_content_sent_bytes_total", "Content handed out to others.")),
      server_(loop_, options(settings, dscp), own_, log) {
  server_.route("/nodes/", guarded([this](const net::HttpRequest& request, net::HttpReply reply) {
    node(request, 7, std::move(reply));
  }));
  server_.route("/packs/", guarded([this](const net::HttpRequest& request, net::HttpReply reply) {
    file(request, 7, &ContentHolder::pack, std::move(reply));
  }));
  server_.route("/objects/", guarded([this](const net::HttpRequest& request, net::HttpReply reply) {
    file(request, 9, &ContentHolder::object, std::move(reply));
  }));
  server_.route("/objects", guarded([this](const net::HttpRequest& request, net::HttpReply reply) {
    objects(request, std::move(reply));
  }));
  server_.route("/nodes", guarded([this](const net::HttpRequest& request, net::HttpReply reply) {
    nodes(request, std::move(reply));
  }));
}

ContentServer::~ContentServer() {
  if (!thread_.joinable()) return;
  loop_.stop();
  thread_.join();
}

void ContentServer::start() {
  thread_ = std::thread([this] { loop_.run(); });
}

std::uint64_t ContentServer::bytes_sent() const { return sent_.value(); }

void ContentServer::add(std::shared_ptr<ContentHolder> holder,
                        std::vector<net::AddressRange> serve_to) {
  holders_.push_back({std::move(holder), std::move(serve_to)});
}

bool ContentServer::admitted(const std::string& peer) const {
  return holders_.empty() || std::ranges::any_of(holders_, [&](const Held& held) {
           return net::any_contains(held.serve_to, peer);
         });
}

net::HttpServer::Handler ContentServer::guarded(net::HttpServer::Handler handler) {
  return [this, handler = std::move(handler)](net::HttpRequest request,
                                              net::HttpReply reply) mutable {
    if (!admitted(request.peer)) return reply(net::HttpResponse::text(403, "not for you\n"));
    handler(std::move(request), std::move(reply));
  };
}

std::optional<tree::ServedFile> ContentServer::find_file(const proto::Hash& hash, Find find,
                                                 const std::string& peer) {
  for (const Held& held : holders_)
    if (net::any_contains(held.serve_to, peer))
      if (auto found = ((*held.holder).*find)(hash)) return found;
  return std::nullopt;
}

std::optional<proto::Bytes> ContentServer::find_node(const proto::Hash& hash,
                                                     const std::string& peer) {
  for (const Held& held : holders_)
    if (net::any_contains(held.serve_to, peer))
      if (auto found = held.holder->node(hash)) return found;
  return std::nullopt;
}

void ContentServer::file(const net::HttpRequest& request, std::size_t skip, Find find,
                         net::HttpReply reply) {
  proto::Hash hash;
  if (request.method == net::HttpRequest::Method::Post ||
      !from_hex(request.path.substr(skip), hash))
    return reply(not_held());
  auto found = find_file(hash, find, request.peer);
  if (!found) return reply(not_held());
  net::HttpResponse response = immutable(hash);
  sent_.add(found->size());
  response.body = net::HttpFile{std::move(found->fd), 0, found->size()};
  reply(std::move(response));
}

void ContentServer::node(const net::HttpRequest& request, std::size_t skip, net::HttpReply reply) {
  proto::Hash hash;
  if (!from_hex(request.path.substr(skip), hash)) return reply(not_held());
  auto found = find_node(hash, request.peer);
  if (!found) return reply(not_held());
  net::HttpResponse response = immutable(hash);
  sent_.add(found->size());
  response.body = std::move(*found);
  reply(std::move(response));
}

void ContentServer::objects(const net::HttpRequest& request, net::HttpReply reply) {
  auto hashes = proto::decode_content_request(request.body);
  if (request.method != net::HttpRequest::Method::Post || !hashes)
    return reply(net::HttpResponse::text(400, "POST 1 to 4096 hashes of 32 bytes\n"));
  auto stream = std::make_shared<ObjectStream>(
      std::move(*hashes),
      [this, peer = request.peer](const proto::Hash& hash) {
        return find_file(hash, &ContentHolder::object, peer);
      },
      sent_);
  net::HttpResponse response;
  response.content_type = "application/octet-stream";
  response.body = net::HttpProducer([stream](net::HttpGive give) { give(stream->next()); });
  reply(std::move(response));
}

void ContentServer::nodes(const net::HttpRequest& request, net::HttpReply reply) {
  auto hashes = proto::decode_content_request(request.body);
  if (request.method != net::HttpRequest::Method::Post || !hashes)
    return reply(net::HttpResponse::text(400, "POST 1 to 4096 hashes of 32 bytes\n"));
  net::HttpResponse response;
  response.content_type = "application/octet-stream";
  response.body = net::HttpProducer(
      [this, hashes = std::move(*hashes), peer = request.peer, next = std::size_t{0}](
          net::HttpGive give) mutable {
        proto::Bytes piece;
        while (piece.size() < kChunk && next < hashes.size()) {
          const proto::Hash& hash = hashes[next++];
          if (const auto bytes = find_node(hash, peer)) {
            proto::append_content_header(piece, hash, bytes->size());
            piece += *bytes;
          } else {
            proto::append_content_gone(piece, hash);
          }
        }
        sent_.add(piece.size());
        if (piece.empty()) return give(std::nullopt);
        give(std::move(piece));
      });
  reply(std::move(response));
}

}  // namespace mirrorbus::mirror
