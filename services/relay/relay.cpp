#include "services/relay/relay.hpp"

#include "bus/peer/settings.hpp"
#include "bus/trust/session_key.hpp"
#include "proto/value.hpp"

#include <algorithm>
#include <cstring>

#include <arpa/inet.h>
#include <fmt/core.h>

namespace mirrorbus::relay {
namespace {

constexpr std::uint32_t kAgainMs = 250;
constexpr std::string_view kTokenMark = "token:";

// An address as 16 bytes (IPv4 mapped into IPv6), and how many leading bits a range fixes.
struct Address {
  unsigned char octets[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  int v4 = 0;
};

std::optional<Address> parse_address(const std::string& text) {
  Address address;
  if (inet_pton(AF_INET, text.c_str(), address.octets + 12) == 1) {
    address.v4 = 1;
    return address;
  }
  if (inet_pton(AF_INET6, text.c_str(), address.octets) == 1) return address;
  return std::nullopt;
}

struct Range {
  Address address;
  int bits;
};

std::optional<Range> parse_range(const std::string& text) {
  const std::size_t slash = text.find('/');
  const auto address = parse_address(text.substr(0, slash));
  if (!address) return std::nullopt;
  const int most = address->v4 ? 32 : 128;
  int bits = most;
  if (slash != std::string::npos) {
    const std::string digits = text.substr(slash + 1);
    if (digits.empty() || digits.size() > 3 ||
        !std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; }))
      return std::nullopt;
    bits = std::stoi(digits);
    if (bits > most) return std::nullopt;
  }
  return Range{*address, address->v4 ? bits + 96 : bits};
}

bool contains(const Range& range, const Address& address) {
  const int whole = range.bits / 8, rest = range.bits % 8;
  if (std::memcmp(range.address.octets, address.octets, static_cast<std::size_t>(whole)) != 0)
    return false;
  if (rest == 0) return true;
  const unsigned char mask = static_cast<unsigned char>(0xff << (8 - rest));
  return (range.address.octets[whole] & mask) == (address.octets[whole] & mask);
}

}  // namespace

bool AllowRule::covers(const std::string& peer, const std::string& token) const {
  if (from.starts_with(kTokenMark))
    return !token.empty() && from.substr(kTokenMark.size()) == token;
  const bool over_ipc = peer.empty() || peer.front() == ':';
  if (from == "ipc") return over_ipc;
  if (over_ipc && peer.find(':', 1) == std::string::npos) return false;
  const auto range = parse_range(from);
  const auto address = parse_address(peer);
  return range && address && contains(*range, *address);
}

bool Tokens::add(const std::string& name, proto::ByteView secret) {
  if (!name_of(secret).empty()) return false;
  known_.emplace_back(name, proto::sha256(secret));
  return true;
}

bool Tokens::contains(const std::string& name) const {
  return std::ranges::find(known_, name, &std::pair<std::string, proto::Hash>::first) !=
         known_.end();
}

std::string Tokens::name_of(proto::ByteView secret) const {
  const proto::Hash shown = proto::sha256(secret);
  const std::string* found = nullptr;
  for (const auto& [name, hash] : known_)
    if (trust::same_secret(hash, shown)) found = &name;
  return found ? *found : std::string();
}

namespace {

// [relay.tokens] NAME = "FILE": the file's first line is the secret.
Tokens read_tokens(const base::ConfigTable& table) {
  Tokens tokens;
  for (const std::string& name : table.keys()) {
    const std::string path = table.text(name);
    const auto secret = peer::read_token(path);
    if (!secret)
      table.fail(name, "\"" + path + "\" cannot be read: it must hold the token on its first line");
    if (secret->size() < Tokens::kShortest)
      table.fail(name,
                 fmt::format("\"{}\" must hold at least {} characters", path, Tokens::kShortest));
    if (!tokens.add(name, *secret)) table.fail(name, "has the same secret as another token");
  }
  return tokens;
}

}  // namespace

RelaySettings RelaySettings::read(const base::Config& config, const std::string& base) {
  RelaySettings settings;
  settings.base = base;
  const base::ConfigTable table = config.table("relay");
  settings.submit = table.texts("submit");
  if (settings.submit.empty())
    table.fail("submit", "must name at least one endpoint, e.g. [\"ipc:///run/mirrorbus/submit\"]");
  table.find_text("connect");  // bus-logger's, both
  table.find_text("token_file");
  settings.tokens = read_tokens(table.table("tokens"));
  for (const base::ConfigTable& allow : table.tables("allow")) {
    AllowRule rule;
    rule.from = allow.text("from");
    if (rule.from.starts_with(kTokenMark)) {
      if (!settings.tokens.contains(rule.from.substr(kTokenMark.size())))
        allow.fail("from", "\"" + rule.from + "\" names no token of [relay.tokens]");
    } else if (rule.from != "ipc" && !parse_range(rule.from)) {
      allow.fail("from", "\"" + rule.from + "\" is neither \"ipc\" nor an address range like" +
                             " \"10.0.0.0/8\" nor \"token:NAME\"");
    }
    for (const std::string& text : allow.texts("topics")) {
      auto pattern = proto::TopicPattern::parse(text);
      if (!pattern) allow.fail("topics", "\"" + text + "\" is not a topic pattern");
      rule.topics.push_back(std::move(*pattern));
    }
    if (rule.topics.empty()) allow.fail("topics", "must list what may be sent from there");
    settings.allow.push_back(std::move(rule));
  }
  return settings;
}

Relay::Relay(base::Loop& loop, net::ZmqContext& context, RelaySettings settings,
             peer::Publisher& publisher, base::Registry& registry, base::Log log)
    : settings_(std::move(settings)),
      publisher_(publisher),
      registry_(registry),
      log_(log.area("relay")),
      accepted_(registry.counter("mirrorbus_relay_accepted_total",
                                 "Submissions acknowledged as durable.")),
      repeated_(registry.counter("mirrorbus_relay_repeated_total",
                                 "Submissions that were in the journal already.")),
      server_(loop, context, registry) {
  server_.add("submit",
              [this](const proto::Request& request, const std::string& peer,
                     peer::ServeReply reply) { submit(request, peer, std::move(reply)); });
  for (const std::string& endpoint : settings_.submit) {
    endpoints_.push_back(server_.bind(endpoint));
    log_.info("taking submissions on {}", endpoints_.back());
  }
}

void Relay::count_refused(proto::Reject why) {
  registry_
      .counter("mirrorbus_relay_refused_total", "Submissions refused, by reason.",
               {"reason", to_string(why)})
      .add();
}

bool Relay::allowed(const std::string& peer, const std::string& token,
                    proto::ByteView topic) const {
  // What mirrors and daemons say of themselves is never anybody else's to say.
  for (const char* own : {".mirror", ".bus"})
    if (proto::is_under(topic, settings_.base + own)) return false;
  return std::ranges::any_of(settings_.allow, [&](const AllowRule& rule) {
    return rule.covers(peer, token) && proto::matches_any(rule.topics, topic);
  });
}

void Relay::submit(const proto::Request& request, const std::string& peer, peer::ServeReply reply) {
  const auto refuse_now = [&](proto::Reject why) {
    count_refused(why);
    reply.refuse(why);
  };
  auto submission = proto::submission(request.args);
  if (!submission) return refuse_now(submission.error());
  if (!proto::is_under(submission->topic, settings_.base))
    return refuse_now(proto::Reject::BadTopic);
  std::string token;
  if (const proto::Value* shown = request.args.find("token")) {
    if (!shown->as_text()) return refuse_now(proto::Reject::WrongType);
    token = settings_.tokens.name_of(*shown->as_text());
  }
  if (!allowed(peer, token, submission->topic)) {
    log_.warning("refused {} from {}: no [[relay.allow]] rule covers it", submission->topic,
                 peer.empty() ? "ipc" : peer);
    return refuse_now(proto::Reject::NotAllowed);
  }
  auto body = proto::unpack(submission->body);
  if (!body) return refuse_now(body.error());
  proto::Map* map = std::get_if<proto::Map>(&body->data);
  if (!map) return refuse_now(proto::Reject::WrongType);
  // Whatever the sender wrote there, where it came from is for the relay to say.
  std::erase_if(*map, [](const auto& entry) { return entry.first == "submitter"; });
  const bool over_ipc = peer.empty() || peer.front() == ':';
  map->emplace_back("submitter", (over_ipc ? "ipc" + peer : "tcp:" + peer) +
                                     (token.empty() ? "" : " token:" + token));

  const Key key{submission->sender, submission->n};
  auto& waiting = under_way_[key];
  waiting.push_back(std::move(reply));
  if (waiting.size() > 1) return;  // a repeat of one that is on its way
  publisher_.find_submission(key.first, key.second,
                             [this, key, topic = submission->topic, bytes = proto::pack(*body)](
                                 std::optional<std::uint64_t> seq) mutable {
                               if (!seq) return publish(key, topic, std::move(bytes));
                               repeated_.add();
                               acknowledge(key, *seq);
                             });
}

void Relay::publish(const Key& key, const std::string& topic, proto::Bytes body) {
  const auto taken = publisher_.publish(
      topic, std::move(body),
      [this, key](const peer::Publisher::Position& at) {
        accepted_.add();
        acknowledge(key, at.seq);
      },
      store::SubmissionRecord{key.first, key.second, 0});
  if (taken) return;
  switch (taken.error()) {
    case peer::PublishError::Full:
    case peer::PublishError::NotReady:
      return refuse(key, proto::Reject::Busy, kAgainMs);
    case peer::PublishError::BadTopic:
      return refuse(key, proto::Reject::BadTopic, 0);
    case peer::PublishError::OutOfScope:
      return refuse(key, proto::Reject::ScopeDenied, 0);
    case peer::PublishError::TooLarge:
      return refuse(key, proto::Reject::TooLarge, 0);
  }
}

void Relay::acknowledge(const Key& key, std::uint64_t seq) {
  auto waiting = under_way_.extract(key);
  if (!waiting) return;
  proto::Answer answer;
  answer.fields = proto::Map{{"seq", seq}, {"stream", publisher_.stream()}};
  for (peer::ServeReply& reply : waiting.mapped()) reply(answer);
}

void Relay::refuse(const Key& key, proto::Reject why, std::uint32_t after_ms) {
  auto waiting = under_way_.extract(key);
  if (!waiting) return;
  for (peer::ServeReply& reply : waiting.mapped()) {
    count_refused(why);
    reply.refuse(why, after_ms);
  }
}

}  // namespace mirrorbus::relay
