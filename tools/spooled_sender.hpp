// Sends events to a relay, or keeps them on disk while it is away. What is kept goes first, one by
// one and in order; each keeps its submission id, so that the relay publishes it once. One thread.
#pragma once

#include "tools/event_spool.hpp"
#include "tools/relay_sender.hpp"

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::tools {

class SpooledSender {
 public:
  struct Handlers {
    RelaySender::OnAcknowledged on_acknowledged;
    std::function<void(const proto::Submission&)> on_kept;  // on disk now
    // Kept, and refused by the relay since: it was set aside.
    std::function<void(const std::string& why)> on_set_aside;
  };

  // Without a spool what cannot be sent is thrown as RelayAway.
  SpooledSender(RelaySender::Options options, EventSpool* spool, Handlers handlers);

  // Durable, here or there, when finish() returns. Throws std::runtime_error if the relay refuses
  // it, SpoolFull.
  void send(const proto::Submission& submission);
  void finish();
  // Whenever there is nothing to send: takes answers, and puts on disk what is to be kept.
  void attend();
  // How long there may be nothing until attend() is to be called; negative: for ever.
  base::Duration patience() const;

  // Sends what is kept. False if some of it is left, because the relay is away, or because another
  // process is sending it.
  bool flush();
  // Why the relay counts as away; empty: it does not.
  const std::string& away() const { return away_; }

 private:
  using Clock = std::chrono::steady_clock;

  void put();
  void relay_is_away(const RelayAway& why);
  void send_kept(EventSpool::Emptying& spool);
  template <class Do>
  void directly(Do what);

  const RelaySender::Options options_;
  EventSpool* const spool_;
  const Handlers handlers_;
  // Empty while events are kept: because the relay is away, or others are before them.
  std::optional<RelaySender> direct_;
  std::vector<proto::Submission> batch_;  // to be kept: those that come together in one file
  std::size_t batch_bytes_ = 0;
  std::string away_;
  Clock::time_point try_again_{};
};

}  // namespace mirrorbus::tools
