// The tables every daemon's configuration shares, as plain values. What each key means is in
// config/*.toml; names and defaults here are the ones documented there.
//
// Reading is all or nothing: the first thing wrong raises a base::ConfigError with file and line.
#pragma once

#include "bus/base/clock.hpp"
#include "bus/base/config.hpp"
#include "bus/base/log.hpp"
#include "bus/net/discovery_core.hpp"
#include "bus/trust/keyring.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::peer {

// [bus]
struct BusSettings {
  std::string prefix;       // "org.example"
  std::string environment;  // "dev", "stg" or "production"
  std::string publisher;    // default: <daemon>@<full host name>
  std::string state;        // absolute; may be empty for tools
  std::string publish;      // endpoints to bind; empty: this daemon does not
  std::string serve;
  // What others connect to, where the bind address does not say it; empty: not given.
  std::string advertise_publish;
  std::string advertise_serve;
  std::string advertise_content;  // http:// or https://
  bool durable = true;            // durability = "full" | "off"
  base::LogLevel log_level = base::LogLevel::Notice;
  std::size_t publish_buffer = 8 << 20;                 // bytes waiting to become durable
  std::uint32_t signatures_per_second = 1000;           // protects receivers
  base::Duration retain = std::chrono::hours(30 * 24);  // how long the journal keeps events
  std::uint64_t retain_bytes = 10'000'000'000;
  base::Duration gap_after = std::chrono::seconds(60);  // then a gap nobody can fill is delivered
  // Serve endpoints of relays that this daemon's own stream is handed over to; host names too.
  std::vector<std::string> forward;
  std::string forward_token_file;  // what is shown there, on its first line; empty: nothing

  std::string base() const { return prefix + "." + environment; }  // what all topics begin with
};

// [discovery]
using net::StaticSource;
struct DiscoverySettings {
  std::vector<std::string> domains;
  std::vector<std::string> resolvers;  // "127.0.0.1:15353"; empty: the system's
  std::vector<StaticSource> fixed;     // static = [{…}]; either endpoint may be empty

  net::DiscoveryOptions options() const { return {domains, fixed}; }
};

// [signing]
struct SigningSettings {
  std::string scheme = "none";  // "openpgp", "x509" or "none"
  std::string key;              // openpgp: primary fingerprint; x509: file of the private key
  std::string certificate;      // x509: file of the certificate
  std::string home;             // openpgp: GnuPG home
  base::Duration lifetime = std::chrono::hours(24);  // of a credential; renewed at half

  trust::Identity identity() const;
};

// [trust], [[trust.allow]]
struct AllowSettings {
  std::vector<std::string> topics;
  std::vector<std::string> keys;
  std::vector<std::string> publishers;
  bool unsigned_streams = false;  // unsigned = true
};
struct TrustSettings {
  std::string home;          // GnuPG home with the public keys
  std::string authorities;   // X.509: file of the CAs' certificates
  std::string certificates;  // X.509: folder of publishers' and intermediate certificates, CRLs
  bool crl = true;           // crl = "required" | "off"
  std::vector<AllowSettings> allow;

  trust::Keyring keyring() const { return {home, {authorities, certificates, crl}}; }
};

// [http], [content], [relay.http]; not present: `listen` is empty
struct ListenSettings {
  std::string listen;  // "127.0.0.1:9942"
  std::size_t connections = 256;
  std::size_t connections_per_peer = 32;
  base::Duration idle_timeout = std::chrono::seconds(30);

  static ListenSettings read(const base::ConfigTable& table);
  bool operator==(const ListenSettings&) const = default;
};

struct Settings {
  BusSettings bus;
  DiscoverySettings discovery;
  SigningSettings signing;
  TrustSettings trust;
  ListenSettings http;
  ListenSettings content;

  // `daemon` stands in the default publisher name. Leaves the tables of other names to the caller,
  // who asks for them and then calls config.finish().
  static Settings read(const base::Config& config, std::string_view daemon);
};

// The machine's name with its domain, as far as the system knows it.
std::string full_host_name();

// What to tell others: `configured` if given, else where we are bound, unless that is every address
// or a local socket; then nothing.
std::string advertised(const std::string& bound, const std::string& configured);

// The first line of a file that holds a token; nothing if there is no such line to be read.
std::optional<std::string> read_token(const std::string& file);

}  // namespace mirrorbus::peer
