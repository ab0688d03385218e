// The public content listener: packs, objects and nodes by hash, on a loop and thread of its own,
// so that bulk never delays the protocol. See proto/content.md.
#pragma once

#include "bus/base/log.hpp"
#include "bus/base/loop.hpp"
#include "bus/base/metrics.hpp"
#include "bus/net/address_range.hpp"
#include "bus/net/http_server.hpp"
#include "bus/peer/settings.hpp"
#include "services/mirror/content_holder.hpp"

#include <memory>
#include <thread>
#include <vector>

namespace mirrorbus::mirror {

class ContentServer {
 public:
  ContentServer(const base::Clock& clock, const peer::ListenSettings& settings,
                base::Registry& registry, base::Log log, int dscp = 0);
  ~ContentServer();  // stops the thread

  // Before start(). `serve_to`: who may have what it holds; none: everybody.
  void add(std::shared_ptr<ContentHolder> holder, std::vector<net::AddressRange> serve_to);
  void start();

  base::Loop& loop() { return loop_; }
  std::uint16_t port() const { return server_.port(); }
  std::uint64_t bytes_sent() const;

 private:
  using Find = std::optional<tree::ServedFile> (ContentHolder::*)(const proto::Hash&);
  void file(const net::HttpRequest& request, std::size_t skip, Find find, net::HttpReply reply);
  void node(const net::HttpRequest& request, std::size_t skip, net::HttpReply reply);
  void objects(const net::HttpRequest& request, net::HttpReply reply);
  void nodes(const net::HttpRequest& request, net::HttpReply reply);
  // Of the trees that `peer` may have.
  std::optional<tree::ServedFile> find_file(const proto::Hash& hash, Find find, const std::string& peer);
  std::optional<proto::Bytes> find_node(const proto::Hash& hash, const std::string& peer);
  bool admitted(const std::string& peer) const;  // to any tree at all
  // Answers with 403 who may have nothing here.
  net::HttpServer::Handler guarded(net::HttpServer::Handler handler);

  base::Loop loop_;
  // Shared with the daemon's other threads, which may drop their trees while an answer is under
  // way.
  struct Held {
    std::shared_ptr<ContentHolder> holder;
    std::vector<net::AddressRange> serve_to;
  };
  std::vector<Held> holders_;
  base::Registry own_;  // the listener's own metrics live on its thread
  base::Counter& sent_;
  net::HttpServer server_;
  std::thread thread_;
};

}  // namespace mirrorbus::mirror
