// Who may send what through a relay. Immutable once read: the doors' threads share one RelayRules,
// a reload makes another.
#pragma once

#include "proto/sha256.hpp"
#include "proto/topic.hpp"
#include "bus/net/address_range.hpp"

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace mirrorbus::relay {

// Who wants something published, as far as the door it came through can tell.
struct Client {
  std::string door;     // "ipc", "tcp", "http", "https"
  std::string address;  // an IP address; over ipc ":UID:GID:PID", or empty
  std::string token;    // the name of the one it has shown; empty = none
  std::vector<std::string> certificate;  // the names of the one it has proved to hold

  // `peer` as ServeServer gives it.
  static Client over_zeromq(const std::string& peer, std::string token);
  // "https:192.0.2.7 token:build1 cert:build1.example.org": what an event says of where it came from.
  std::string submitter() const;
  // What it is known by: "token:NAME", else "cert:NAME", else the address.
  std::string identity() const;
};

// [[relay.allow]]: from where, what.
class AllowRule {
 public:
  // "ipc", an address range "10.0.0.0/8", "::1/128", "token:NAME" or "cert:NAME".
  static std::optional<AllowRule> parse(const std::string& from);

  bool covers(const Client& client) const;
  // The name in "token:NAME" or "cert:NAME", else nullptr.
  const std::string* token() const;
  const std::string* certificate() const;

  std::vector<proto::TopicPattern> topics;

 private:
  struct Ipc {};
  struct Token {
    std::string name;
  };
  struct Certificate {
    std::string name;
  };
  using From = std::variant<Ipc, net::AddressRange, Token, Certificate>;
  explicit AllowRule(From from) : from_(std::move(from)) {}
  From from_;
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

struct RelayRules {
  std::string base;  // prefix.env
  std::vector<AllowRule> allow;
  Tokens tokens;

  // There is something that this client may send.
  bool knows(const Client& client) const;
  bool allow_topic(const Client& client, proto::ByteView topic) const;
};

}  // namespace mirrorbus::relay
