// Connects out to one relay and hands over what its publisher has made durable: the driver of a
// ForwardCore. Publishing never waits for it. Loop thread only.
#pragma once

#include "bus/base/log.hpp"
#include "bus/base/metrics.hpp"
#include "bus/base/pool.hpp"
#include "bus/net/dns.hpp"
#include "bus/net/zmq_socket.hpp"
#include "bus/peer/forward_core.hpp"
#include "bus/peer/settings.hpp"

#include <memory>
#include <optional>
#include <string>

namespace mirrorbus::peer {

class Forwarder : private ForwardActions {
 public:
  // `relay`: its serve endpoint, a host name or an address. Reads `journal` on `reader`, both of
  // which outlive this.
  Forwarder(base::Loop& loop, net::ZmqContext& context, const Settings& settings,
            const std::string& relay, const proto::Hash& stream, store::Journal& journal,
            base::WorkerPool& reader, base::Registry& registry, base::Log log);
  ~Forwarder() override;

  void durable(std::uint64_t last);
  void head(const proto::Bytes& sealed, const proto::Hash& credential);
  // Nothing is on its way to the relay, or it takes nothing.
  bool done() const { return !core_.in_order() || core_.through() >= last_; }

 private:
  void send(std::uint64_t question, proto::ForwardRequest::Kind kind,
            std::vector<proto::Bytes> parts) override;
  void read(std::uint64_t number, const ForwardRead& read) override;
  void reconnect() override { socket_gone_ = true; }

  void connect();
  void connect_to(const std::string& endpoint);
  void receive(const std::vector<proto::Bytes>& parts);
  void after();  // whatever the core was told of
  void tell();

  base::Loop& loop_;
  net::ZmqContext& context_;
  const std::string relay_;
  const proto::Hash stream_;
  const std::string token_file_;
  store::Journal& journal_;
  base::WorkerPool& reader_;
  base::Log log_;

  ForwardCore core_;
  std::unique_ptr<net::Resolver> resolver_;  // where the relay is a name
  std::size_t resolved_ = 0;                 // how often: each time the next address
  std::unique_ptr<net::ZmqSocket> socket_;
  bool socket_gone_ = false;
  std::string token_;
  std::vector<std::vector<proto::Bytes>> unsent_;  // until the name is resolved
  std::uint64_t last_ = 0;

  std::optional<proto::Reject> told_;
  bool told_good_ = false;
  base::MonoTime told_at_{};
  std::uint64_t counted_rows_ = 0;
  std::uint64_t counted_damage_ = 0;  // where it began
  base::Counter& rows_;
  base::Gauge& lag_;
  base::Counter& damaged_;
  base::Registry& registry_;

  base::Timer tick_;
  base::Later after_;
  std::shared_ptr<bool> alive_;  // shared with reads and look-ups on their way
};

}  // namespace mirrorbus::peer
