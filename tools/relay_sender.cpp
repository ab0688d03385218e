#include "tools/relay_sender.hpp"

#include "bus/trust/session_key.hpp"

#include <algorithm>

#include <fmt/core.h>

namespace mirrorbus::tools {
namespace {

using namespace std::chrono_literals;

constexpr base::Duration kAgain = 1s;

}  // namespace

proto::Bytes new_sender() {
  proto::Bytes sender(proto::kSenderSize, '\0');
  trust::random_bytes(sender.data(), sender.size());
  return sender;
}

RelaySender::RelaySender(Options options, OnAcknowledged on_acknowledged, OnRefused on_refused)
    : options_(std::move(options)),
      on_acknowledged_(std::move(on_acknowledged)),
      on_refused_(std::move(on_refused)),
      socket_(context_, net::ZmqType::Dealer, {}) {
  socket_.connect(options_.relay);
}

void RelaySender::reserve() {
  while (pending_.size() >= options_.window) attend(50ms);
}

void RelaySender::send(proto::Submission submission) {
  reserve();
  const std::uint64_t id = ++requests_;
  proto::Map args = to_args(submission);
  if (!options_.token.empty()) args.emplace_back("token", options_.token);
  const proto::Request request{id, "submit", std::move(args)};
  Pending pending{
      std::move(submission), proto::encode_request(request), {}, Clock::now() + options_.timeout};
  transmit(pending_.emplace(id, std::move(pending)).first->second);
}

void RelaySender::finish() {
  while (!pending_.empty()) attend(50ms);
}

std::vector<proto::Submission> RelaySender::pending() const {
  std::vector<proto::Submission> submissions;
  for (const auto& [id, pending] : pending_) submissions.push_back(pending.submission);
  return submissions;
}

void RelaySender::transmit(Pending& pending) {
  pending.again = Clock::now() + kAgain;
  socket_.send({pending.request}, 100ms);  // not taken: it is sent again
}

void RelaySender::attend(base::Duration at_most) {
  for (auto parts = socket_.receive(at_most); parts; parts = socket_.receive(0ms)) take(*parts);
  const auto now = Clock::now();
  for (auto& [id, pending] : pending_) {
    if (now > pending.until)
      throw RelayAway(fmt::format(
          "no acknowledgement from the relay at {} within {} s; {} of {} events are durable. "
          "Is bus-relayd running there?",
          options_.relay, base::to_seconds(options_.timeout), acknowledged_,
          requests_));
    if (now > pending.again) transmit(pending);
  }
}

void RelaySender::take(const std::vector<proto::Bytes>& parts) {
  const auto answer = proto::decode_answer(parts);
  if (!answer) return;
  const auto found = pending_.find(answer->id);
  if (found == pending_.end()) return;
  if (answer->refused == proto::Reject::Busy || answer->refused == proto::Reject::Unavailable) {
    found->second.again = Clock::now() + std::chrono::milliseconds(std::max(answer->after_ms, 50u));
    return;
  }
  const std::string& topic = found->second.submission.topic;
  if (answer->refused && !on_refused_) throw std::runtime_error(refusal(topic, *answer->refused));
  const proto::Submission submission = std::move(found->second.submission);
  pending_.erase(found);
  if (answer->refused) return on_refused_(submission, refusal(submission.topic, *answer->refused));
  ++acknowledged_;
  on_acknowledged_(submission, proto::field<std::uint64_t>(answer->fields, "seq").value_or(0));
}

std::string RelaySender::refusal(const std::string& topic, proto::Reject why) const {
  return fmt::format("the relay at {} refused {}: {}{}", options_.relay, topic, to_string(why),
                     why == proto::Reject::NotAllowed
                         ? " (no [[relay.allow]] rule of its covers this sender and topic)"
                         : "");
}

}  // namespace mirrorbus::tools
