#include "bus/peer/asker.hpp"

namespace mirrorbus::peer {

Asker::Asker(base::Loop& loop, net::ZmqContext& context, OnUnreadable on_unreadable,
             base::Duration timeout)
    : loop_(loop),
      context_(context),
      on_unreadable_(std::move(on_unreadable)),
      timeout_(timeout),
      expire_(loop) {}
Asker::~Asker() = default;

net::ZmqSocket& Asker::socket_to(const std::string& endpoint) {
  if (const auto it = sockets_.find(endpoint); it != sockets_.end()) return *it->second;
  net::ZmqOptions options;
  options.max_frame_size = 2 * proto::kMaxAnswerBytes;
  auto socket = std::make_unique<net::ZmqSocket>(loop_, context_, net::ZmqType::Dealer, options);
  socket->on_message(
      [this](std::vector<proto::Bytes> parts, const net::ZmqSender& sender) {
        receive(parts, sender.address());
      });
  socket->on_event([this, endpoint](const net::ZmqEvent& event) {
    using Kind = net::ZmqEvent::Kind;
    if (event.kind == Kind::Disconnected || event.kind == Kind::HandshakeFailed) lost(endpoint);
  });
  socket->connect(endpoint);
  // Whoever still waits on one of these asks again.
  if (sockets_.size() >= kMaxSockets) sockets_.clear();
  return *sockets_.emplace(endpoint, std::move(socket)).first->second;
}

void Asker::ask(const std::string& endpoint, const std::string& verb, const proto::Map& args,
                OnAnswer&& on_answer) {
  net::ZmqSocket& socket = socket_to(endpoint);
  const std::uint64_t id = next_id_++;
  waiting_.emplace(id, Waiting{loop_.now().mono + timeout_, endpoint, std::move(on_answer)});
  proto::Request request{id, verb, args};
  socket.send(proto::encode_request(request));
  if (!expire_.running()) expire_.start(timeout_, [this] { expire(); });
}

void Asker::receive(const std::vector<proto::Bytes>& parts, const std::string& from) {
  auto answer = proto::decode_answer(parts);
  if (!answer) return on_unreadable_(answer.error());  // whoever asked runs into his time
  auto found = waiting_.extract(answer->id);
  if (found) found.mapped().on_answer(std::move(answer), from);
}

// What was on its way there is gone with the connection. A new socket asks anew: libzmq gives up for
// good on a peer whose answer is too large or not ZeroMQ.
void Asker::lost(std::string endpoint) {
  sockets_.erase(endpoint);
  std::vector<OnAnswer> unanswered;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const auto one = it++;
    if (one->second.endpoint != endpoint) continue;
    unanswered.push_back(std::move(one->second.on_answer));
    waiting_.erase(one);
  }
  for (OnAnswer& on_answer : unanswered) on_answer(proto::refuse(proto::Reject::Unavailable), {});
}

void Asker::expire() {
  const base::MonoTime now = loop_.now().mono;
  std::vector<OnAnswer> late;
  // Ids grow with time, so the first to expire is the first.
  while (!waiting_.empty() && waiting_.begin()->second.until <= now) {
    Waiting waiting = std::move(waiting_.extract(waiting_.begin()).mapped());
    sockets_.erase(waiting.endpoint);
    late.push_back(std::move(waiting.on_answer));
  }
  if (!waiting_.empty())
    expire_.start_at(waiting_.begin()->second.until, [this] { expire(); });
  for (OnAnswer& on_answer : late) on_answer(proto::refuse(proto::Reject::Unavailable), {});
}

}  // namespace mirrorbus::peer
