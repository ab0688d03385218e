// The relay: takes events from senders that cannot publish themselves (a shell command, a host
// behind a firewall), and acknowledges each once it is durable under the relay's own seal. Loop
// thread only.
#pragma once

#include "bus/base/config.hpp"
#include "bus/peer/publisher.hpp"
#include "bus/peer/serve_server.hpp"
#include "proto/sha256.hpp"
#include "proto/topic.hpp"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::relay {

// [[relay.allow]]: from where, what.
struct AllowRule {
  std::string from;  // "ipc", an address range "10.0.0.0/8", "::1/128", or "token:NAME"
  std::vector<proto::TopicPattern> topics;

  // `peer` as ServeServer gives it: an IP address, or ":UID:GID:PID" over ipc. `token`: the name of
  // the one it has shown; empty = none.
  bool covers(const std::string& peer, const std::string& token) const;
};

// [relay.tokens]: what senders show to be known by a name instead of an address.
class Tokens {
 public:
  static constexpr std::size_t kShortest = 16;
  // False if another name has the same secret.
  bool add(const std::string& name, proto::ByteView secret);
  bool contains(const std::string& name) const;
  // Whose secret this is; empty = nobody's. Takes as long for one as for the other.
  std::string name_of(proto::ByteView secret) const;

 private:
  std::vector<std::pair<std::string, proto::Hash>> known_;  // secrets by their hash
};

struct RelaySettings {
  std::vector<std::string> submit;  // endpoints to bind
  std::vector<AllowRule> allow;
  Tokens tokens;
  std::string base;  // prefix.env

  // Raises base::ConfigError.
  static RelaySettings read(const base::Config& config, const std::string& base);
};

class Relay {
 public:
  Relay(base::Loop& loop, net::ZmqContext& context, RelaySettings settings,
        peer::Publisher& publisher, base::Registry& registry, base::Log log);

  // Other rules; the endpoints stay.
  void set_rules(std::vector<AllowRule> allow, Tokens tokens) {
    settings_.allow = std::move(allow);
    settings_.tokens = std::move(tokens);
  }
  // Nobody waits for an acknowledgement.
  bool idle() const { return under_way_.empty(); }
  const std::vector<std::string>& endpoints() const { return endpoints_; }

 private:
  using Key = std::pair<proto::Bytes, std::uint64_t>;  // (sender, n)

  void submit(const proto::Request& request, const std::string& peer, peer::ServeReply reply);
  void publish(const Key& key, const std::string& topic, proto::Bytes body);
  void acknowledge(const Key& key, std::uint64_t seq);
  void refuse(const Key& key, proto::Reject why, std::uint32_t after_ms);
  bool allowed(const std::string& peer, const std::string& token, proto::ByteView topic) const;
  void count_refused(proto::Reject why);

  RelaySettings settings_;
  peer::Publisher& publisher_;
  base::Registry& registry_;
  base::Log log_;
  base::Counter& accepted_;
  base::Counter& repeated_;
  std::vector<std::string> endpoints_;
  // Submissions on their way to the journal, and who wants to know.
  std::map<Key, std::vector<peer::ServeReply>> under_way_;
  peer::ServeServer server_;
};

}  // namespace mirrorbus::relay
