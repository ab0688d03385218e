#include "bus/peer/serve_server.hpp"

namespace mirrorbus::peer {

ServeReply::~ServeReply() {
  if (send_) refuse(proto::Reject::Unavailable);
}

void ServeReply::operator()(proto::Answer answer) {
  answer.id = id_;
  if (auto send = std::exchange(send_, nullptr)) send(std::move(answer));
}

void ServeReply::refuse(proto::Reject why, std::uint32_t after_ms) {
  proto::Answer answer;
  answer.refused = why;
  answer.after_ms = after_ms;
  (*this)(std::move(answer));
}

namespace {
net::ZmqOptions taking_frames_of(std::size_t bytes) {
  net::ZmqOptions options;
  options.max_frame_size = static_cast<std::int64_t>(bytes);
  return options;
}
}  // namespace

ServeServer::ServeServer(base::Loop& loop, net::ZmqContext& context, base::Registry& registry,
                         std::size_t max_frame_size)
    : registry_(registry),
      requests_(
          registry.counter("mirrorbus_serve_requests_total", "Requests on the serve socket.")),
      under_way_(std::make_shared<std::size_t>(0)),
      socket_(std::make_shared<net::ZmqSocket>(loop, context, net::ZmqType::Router,
                                               taking_frames_of(max_frame_size))) {
  socket_->on_message([this](std::vector<proto::Bytes> parts, const net::ZmqSender& sender) {
    receive(std::move(parts), sender.address());
  });
}

ServeServer::~ServeServer() = default;

std::string ServeServer::bind(const std::string& endpoint) { return socket_->bind(endpoint); }

void ServeServer::add(std::string verb, Verb handler) {
  verbs_.insert_or_assign(std::move(verb), Entry{std::move(handler), false});
}

void ServeServer::add_with_parts(std::string verb, Verb handler) {
  verbs_.insert_or_assign(std::move(verb), Entry{std::move(handler), true});
}

void ServeServer::receive(std::vector<proto::Bytes> parts, const std::string& peer) {
  requests_.add();
  if (parts.size() < 2) return;  // the asker's routing id, a request, its parts
  auto request = proto::decode_request(parts[1]);
  // A reply must not keep the socket alive past the server, only find it if it still is.
  ServeReply reply(request ? request->id : 0,
                   [socket = std::weak_ptr(socket_), route = parts[0],
                    under_way = under_way_](const proto::Answer& answer) {
                     --*under_way;
                     const auto alive = socket.lock();
                     if (!alive) return;
                     std::vector<proto::Bytes> frames{route};
                     for (proto::Bytes& frame : proto::encode_answer(answer))
                       frames.push_back(std::move(frame));
                     alive->send(std::move(frames));
                   });
  const auto refuse = [&](proto::Reject why, std::uint32_t after_ms = 0) {
    registry_
        .counter("mirrorbus_serve_refused_total", "Requests refused, by reason.",
                 {"reason", proto::to_string(why)})
        .add();
    reply.refuse(why, after_ms);
  };
  ++*under_way_;
  if (!request) return refuse(request.error());
  if (*under_way_ > kMaxUnderWay) return refuse(proto::Reject::Busy, 500);
  const auto verb = verbs_.find(request->verb);
  if (verb == verbs_.end()) return refuse(proto::Reject::UnknownVerb);
  if (parts.size() > 2 && !verb->second.takes_parts) return refuse(proto::Reject::TrailingBytes);
  request->parts.assign(std::make_move_iterator(parts.begin() + 2),
                        std::make_move_iterator(parts.end()));
  verb->second.handler(*request, peer, std::move(reply));
}

}  // namespace mirrorbus::peer
