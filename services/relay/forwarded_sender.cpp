#include "services/relay/forwarded_sender.hpp"

#include "proto/event.hpp"
#include "proto/merkle.hpp"

namespace mirrorbus::relay {
namespace {

using namespace std::chrono_literals;

constexpr base::Duration kAnnounce = 60s;
constexpr base::Duration kGreet = 20ms;
constexpr base::Duration kGreetPause = 500ms;

}  // namespace

ForwardedSender::ForwardedSender(base::Loop& loop, peer::Publisher& publisher,
                                 ForwardedTrust& trust, const HeldStreams& streams,
                                 base::Registry& registry)
    : loop_(loop),
      publisher_(publisher),
      trust_(trust),
      streams_(streams),
      registry_(registry),
      events_(registry.counter("mirrorbus_forwarded_events_total",
                               "Events handed over to this relay, durable and sent on.")),
      heads_(registry.counter("mirrorbus_forwarded_heads_total",
                              "Heads of such streams sent on.")),
      announce_(loop),
      greet_(loop) {
  publisher_.on_subscriber([this] { greet(); });
  announce_all();
}

void ForwardedSender::events(const store::JournalRow& stored) {
  const auto row = proto::decode_row(stored.bytes);
  const auto header = *proto::decode_header(row->header());
  // History goes to who asks for it: live it would be refused.
  peer::KnownCredential* known = trust_.live(header.credential, header.time_ns);
  if (!known) return;
  std::vector<proto::Hash> leaves;
  leaves.reserve(row->items.size());
  for (const auto& [topic, event] : row->items) leaves.push_back(proto::event_leaf(topic, event));
  const proto::MerkleTree tree(std::move(leaves));
  proto::Bytes path;
  for (std::size_t i = 0; i < row->items.size(); ++i) {
    const auto& [topic, event] = row->items[i];
    if (!trust_.allows(*known, topic)) continue;
    path.clear();
    tree.append_path(path, i);
    const proto::EventFrame frame{topic, row->sealed_header, path, event};
    net::ZmqFrame message(proto::event_frame_size(frame));
    proto::write_event_frame(message.data(), frame);
    publisher_.pass_on(std::move(message));
    events_.add();
  }
}

void ForwardedSender::changed(HeldStream& stream) {
  registry_
      .gauge("mirrorbus_forwarded_last_seq", "Last durable sequence number of such a stream.",
             {"publisher", stream.name().publisher})
      .set(static_cast<double>(stream.core().last()));
  if (stream.announce_now()) announce(stream);
  while (const auto head = stream.core().release(loop_.now())) {
    publisher_.pass_on(proto::encode_control(proto::ControlKind::Head, stream.id(), *head));
    heads_.add();
  }
}

void ForwardedSender::announce(HeldStream& stream) {
  const peer::KnownCredential* known = trust_.find(stream.newest());
  if (!known || !trust_.live(known->id, known->credential.not_before_ns)) return;
  publisher_.pass_on(stream.announcement());
}

void ForwardedSender::announce_all() {
  for (const auto& [id, stream] : streams_) announce(*stream);
  announce_.start(kAnnounce, [this] { announce_all(); });
}

// For who has just come; the welcome message has room for one credential only.
void ForwardedSender::greet() {
  if (greet_.running()) return greet_again_ = true, void();
  greet_again_ = false;
  greet_.start(kGreet, [this] {
    announce_all();
    greet_.start(kGreetPause, [this] {
      if (greet_again_) greet();
    });
  });
}

}  // namespace mirrorbus::relay
