// POST /submit over HTTP(S): proto/http_submit.md. TLS, limits and decoding happen on a loop and
// thread of its own, so that handshakes and large bodies delay no event; what is left goes to the
// intake on the daemon's loop.
#pragma once

#include "bus/base/loop.hpp"
#include "bus/net/http_server.hpp"
#include "services/relay/intake.hpp"
#include "services/relay/rate_limit.hpp"
#include "services/relay/relay_settings.hpp"

#include <atomic>
#include <expected>
#include <thread>
#include <unordered_map>

namespace mirrorbus::relay {

class HttpDoor {
 public:
  // Listens and takes at once. `main` and `intake` outlive it; it is made, told and destroyed on
  // main's thread, destroyed when that no longer runs.
  HttpDoor(base::Loop& main, const HttpDoorSettings& settings,
           std::shared_ptr<const RelayRules> rules, Intake& intake, base::Registry& registry,
           base::Log log);
  ~HttpDoor();

  // Another certificate, rates and rules, from the next connection and request on.
  void change(const HttpDoorSettings& settings, std::shared_ptr<const RelayRules> rules);
  // Takes nothing more; what is under way is answered.
  void close();
  bool idle() const { return under_way_.load() == 0; }

  base::Loop& loop() { return loop_; }

 private:
  using Result = std::expected<std::uint64_t, Refusal>;

  // On the door's thread.
  void take(const net::HttpRequest& request, net::HttpReply reply);
  std::expected<Client, Refusal> admit(const net::HttpRequest& request);
  void answer(std::uint64_t number, const proto::Hash& stream, const Result& result);
  void refuse(net::HttpReply& reply, const Refusal& refusal);

  base::Loop& main_;
  Intake& intake_;
  base::Log log_;
  base::Loop loop_;
  std::atomic<std::size_t> under_way_ = 0;
  // From here on the door's thread's own.
  std::shared_ptr<const RelayRules> rules_;  // shared with the intake
  RateLimit limit_;
  std::uint64_t last_ = 0;
  std::unordered_map<std::uint64_t, net::HttpReply> waiting_;  // for the intake, by number
  net::HttpServer server_;
  std::thread thread_;
};

}  // namespace mirrorbus::relay
