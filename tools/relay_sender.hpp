// Sends events to a relay and waits for its word that they are durable. What is not answered is
// sent again; the relay knows repeats. One thread.
#pragma once

#include "bus/net/zmq_blocking.hpp"
#include "proto/serve.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>

namespace mirrorbus::tools {

// The relay has not answered in time: it may be down, or slow. What is pending may be durable.
struct RelayAway : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A new sender's id (proto::Submission): random bytes.
proto::Bytes new_sender();

class RelaySender {
 public:
  struct Options {
    std::string relay;         // its submit endpoint
    std::string token;         // to show; empty: none
    base::Duration timeout;    // for each event
    std::size_t window = 256;  // events under way; 1: their order stays whatever happens
  };
  using OnAcknowledged = std::function<void(const proto::Submission&, std::uint64_t seq)>;
  // Of what is refused for good. Without it refusals are thrown as std::runtime_error.
  using OnRefused = std::function<void(const proto::Submission&, const std::string& why)>;

  RelaySender(Options options, OnAcknowledged on_acknowledged, OnRefused on_refused = nullptr);

  // Waits while the window is full. Throws RelayAway: then it was not taken.
  void send(proto::Submission submission);
  // Until there is room to send one without waiting. Throws RelayAway.
  void reserve();
  // Until all are answered. Throws RelayAway.
  void finish();
  // Takes the answers that are there, waiting for one at most so long, and sends again what has
  // waited. Throws RelayAway.
  void attend(base::Duration at_most);
  bool idle() const { return pending_.empty(); }

  // Sent and not answered, in the order of sending.
  std::vector<proto::Submission> pending() const;
  std::uint64_t acknowledged() const { return acknowledged_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Pending {
    proto::Submission submission;
    proto::Bytes request;
    Clock::time_point again;
    Clock::time_point until;
  };

  void transmit(Pending& pending);
  void take(const std::vector<proto::Bytes>& parts);
  std::string refusal(const std::string& topic, proto::Reject why) const;

  const Options options_;
  const OnAcknowledged on_acknowledged_;
  const OnRefused on_refused_;
  net::ZmqContext context_;
  net::BlockingZmqSocket socket_;
  std::uint64_t requests_ = 0;
  std::uint64_t acknowledged_ = 0;
  std::map<std::uint64_t, Pending> pending_;
};

}  // namespace mirrorbus::tools
