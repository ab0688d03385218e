#include "services/relay/http_door.hpp"

#include "proto/http_submit.hpp"

#include <algorithm>
#include <chrono>

#include <fmt/core.h>

namespace mirrorbus::relay {
namespace {

using proto::Reject;

net::HttpResponse refusal_response(int status, Reject why) {
  return net::HttpResponse::json(status,
                                 proto::to_json(proto::Map{{"error", to_string(why)}}) + "\n");
}

net::HttpResponse response_to(const Refusal& refusal) {
  net::HttpResponse response = refusal_response(proto::http_status(refusal.why), refusal.why);
  if (response.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (response.status == 429 || response.status == 503)
    response.headers.emplace_back("Retry-After",
                                  fmt::format("{}", std::max(1u, (refusal.after_ms + 999) / 1000)));
  return response;
}

// What was refused before it could reach us.
net::HttpResponse unreadable(int status, const std::string&) {
  switch (status) {
    case 404: return refusal_response(status, Reject::NotHeld);
    case 405: return refusal_response(status, Reject::UnknownVerb);
    case 413:
    case 431: return refusal_response(status, Reject::TooLarge);
    default: return refusal_response(status, Reject::BadField);
  }
}

net::HttpOptions options(const HttpDoorSettings& settings) {
  net::HttpOptions options;
  options.name = "submit";
  options.listen = settings.listen.listen;
  options.max_connections = settings.listen.connections;
  options.max_connections_per_peer = settings.listen.connections_per_peer;
  options.idle_timeout = settings.listen.idle_timeout;
  options.max_body = settings.max_body;
  options.tls = settings.tls;
  options.refusal = unreadable;
  return options;
}

// The secret of "Bearer SECRET"; RFC 6750 §2.1.
std::optional<std::string_view> bearer(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() < kScheme.size()) return std::nullopt;
  for (std::size_t i = 0; i < kScheme.size(); ++i)
    if ((authorization[i] | 0x20) != kScheme[i]) return std::nullopt;
  authorization.remove_prefix(kScheme.size());
  while (authorization.starts_with(' ')) authorization.remove_prefix(1);
  return authorization;
}

std::uint32_t ceil_ms(base::Duration wait) {
  return static_cast<std::uint32_t>(std::chrono::ceil<std::chrono::milliseconds>(wait).count());
}

}  // namespace

HttpDoor::HttpDoor(base::Loop& main, const HttpDoorSettings& settings,
                   std::shared_ptr<const RelayRules> rules, Intake& intake,
                   base::Registry& registry, base::Log log)
    : main_(main),
      intake_(intake),
      log_(log.area("relay")),
      loop_(main.clock()),
      rules_(std::move(rules)),
      limit_(static_cast<double>(settings.rate), static_cast<double>(settings.burst)),
      server_(loop_, options(settings), registry, log_) {
  server_.route("/submit", [this](const net::HttpRequest& request, net::HttpReply reply) {
    take(request, std::move(reply));
  });
  const std::string& listen = settings.listen.listen;
  log_.info("taking submissions on {}://{}:{}/submit", settings.tls ? "https" : "http",
            listen.substr(0, listen.rfind(':')), server_.port());
  thread_ = std::thread([this] { loop_.run(); });
}

HttpDoor::~HttpDoor() {
  loop_.stop();
  thread_.join();
}

void HttpDoor::change(const HttpDoorSettings& settings, std::shared_ptr<const RelayRules> rules) {
  loop_.post([this, rules = std::move(rules), tls = settings.tls,
              rate = static_cast<double>(settings.rate),
              burst = static_cast<double>(settings.burst)]() mutable {
    rules_ = std::move(rules);
    limit_.set(rate, burst);
    if (tls) server_.set_tls(std::move(tls));
  });
}

void HttpDoor::close() {
  loop_.post([this] { server_.close_listener(); });
}

std::expected<Client, Refusal> HttpDoor::admit(const net::HttpRequest& request) {
  Client client{request.tls ? "https" : "http", request.peer, {}, request.client_names};
  if (!request.authorization.empty())
    if (const auto secret = bearer(request.authorization))
      client.token = rules_->tokens.name_of(*secret);
  // Before anything is said about a token: guessing is limited like everything else.
  const std::string payer = client.token.empty() && client.certificate.empty()
                                ? net::neighbourhood(client.address)
                                : client.identity();
  if (const auto wait = limit_.take(payer, loop_.clock().now().mono))
    return std::unexpected(Refusal{Reject::RateLimited, ceil_ms(*wait)});
  if (!request.authorization.empty() && client.token.empty())
    return std::unexpected(Refusal{Reject::UnknownToken});
  // A body is read only for somebody who may send something.
  if (!rules_->knows(client)) return std::unexpected(Refusal{Reject::NotAllowed});
  return client;
}

void HttpDoor::take(const net::HttpRequest& request, net::HttpReply reply) {
  if (request.method != net::HttpRequest::Method::Post) {
    net::HttpResponse response = refusal_response(405, Reject::UnknownVerb);
    response.headers.emplace_back("Allow", "POST");
    return reply(std::move(response));
  }
  const auto client = admit(request);
  if (!client) {
    log_.info("refused a submission from {}: {}", request.peer, to_string(client.error().why));
    return refuse(reply, client.error());
  }
  const auto form = proto::http_form(request.content_type);
  if (!form) return refuse(reply, {Reject::BadContentType});
  auto submission = proto::decode_http_submission(request.body, *form);
  if (!submission) return refuse(reply, {submission.error()});
  if (!submission->name && request.idempotency_key) {
    const auto name = proto::name_from_key(client->identity(), *request.idempotency_key);
    if (!name) return refuse(reply, {name.error()});
    submission->name = *name;
  }
  ++under_way_;
  const std::uint64_t number = ++last_;
  waiting_.emplace(number, std::move(reply));
  main_.post([this, number, client = *client, submission = std::move(*submission)]() mutable {
    intake_.submit(client,
                   {std::move(submission.name), std::move(submission.topic),
                    std::move(submission.body)},
                   [this, number](const Result& result) {
                     loop_.post([this, number, stream = intake_.stream(), result] {
                       answer(number, stream, result);
                     });
                   });
  });
}

void HttpDoor::answer(std::uint64_t number, const proto::Hash& stream, const Result& result) {
  auto waiting = waiting_.extract(number);
  if (!waiting) return;
  net::HttpReply& reply = waiting.mapped();
  reply(result ? net::HttpResponse::json(
                     200, proto::to_json(proto::Map{{"seq", *result}, {"stream", stream}}) + "\n")
               : response_to(result.error()));
  --under_way_;
}

void HttpDoor::refuse(net::HttpReply& reply, const Refusal& refusal) {
  main_.post([this, why = refusal.why] { intake_.count_refused(why); });
  reply(response_to(refusal));
}

}  // namespace mirrorbus::relay
