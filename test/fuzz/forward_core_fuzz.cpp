// A stream is handed over to a relay that answers whatever it likes, late or not at all; then to an
// honest one, which comes to have all of it.
#include "test/fuzz/fuzz.hpp"
#include "test/bus/peer/damaged_journal.hpp"
#include "test/services/relay/forward_fixture.hpp"

#include <array>

using namespace mirrorbus;
using namespace mirrorbus::relay::test;

namespace {

constexpr double kStart = 100;

// In the end the relay has what the publisher has.
void hand_over(Publisher& publisher, Relay& relay, double seconds) {
  const store::Tail tail = publisher.journal->tail();
  for (int step = 0; step < 200; ++step, seconds += 1) {
    const base::Now now = at(seconds);
    publisher.beat(now);
    publisher.forward->tick(now);
    settle(publisher, *publisher.journal, relay, now);
    if (relay.tail().last_seq == tail.last_seq && relay.tail().header == tail.header &&
        publisher.forward->in_order() && publisher.forward->through() == tail.last_seq)
      return;
  }
  fuzz::require(false, "an honest relay comes to have all that its publisher has");
}

// A publisher of four runs, one of which began from a copy of its disk, and relays that have some
// of it or what was lost.
struct World {
  Publisher publisher;
  std::vector<Relay> relays{1};

  World() {
    begin(0);
    publish(20);
    relays.push_back(handed_over());
    publisher.renew(at(2));
    publish(15);
    begin(3);
    publish(30);
    relays.push_back(handed_over());
    publisher.restore(25);
    begin(4);
    publish(10);
    begin(5);
    publish(10);
    relays.push_back(handed_over());
  }
  void begin(double seconds) { publisher.start(at(seconds)); }
  void publish(int events) {
    for (int i = 0; i < events; ++i) publisher.publish(1 + i % 3, at(5));
  }
  Relay handed_over() {
    Relay relay;
    hand_over(publisher, relay, 6);
    return relay;
  }
};

Reject any_reject(fuzz::Choices& in) {
  static constexpr std::array kWords = {
      Reject::Busy,      Reject::BadOrder,          Reject::BadChain,     Reject::EpochRollback,
      Reject::StaleHead, Reject::UnknownCredential, Reject::Equivocation, Reject::NotAllowed,
      Reject::ClockSkew, Reject::Superseded,        Reject::SourceCut,    Reject::UnknownVerb};
  return kWords[in.below(kWords.size())];
}

proto::Answer any_answer(fuzz::Choices& in, const Relay& relay, const store::Tail& tail) {
  proto::Answer answer;
  if (in.flag()) {
    answer.refused = any_reject(in);
    answer.after_ms = in.flag() ? in.byte() : UINT32_MAX;
    return answer;
  }
  proto::ForwardAnswer there = relay.core->how_far();
  if (in.flag()) there.epoch = in.below(8);
  if (in.flag()) there.through = in.flag() ? in.below(200) : UINT64_MAX - in.below(2);
  if (in.flag()) there.header = in.flag() ? tail.header : proto::Hash{};
  if (!in.flag()) answer.fields = proto::to_fields(there);
  return answer;
}

// Or nothing, or a journal of which the disk has changed a row.
peer::ForwardFound any_found(fuzz::Choices& in, store::Journal& journal,
                             const peer::ForwardRead& read) {
  const unsigned how = in.byte();
  if (how == 0) return {};
  if (how != 1) return peer::forward_read(journal, read);
  peer::test::DamagedJournal damaged(journal, read.seq + in.below(4));
  return peer::forward_read(damaged, read);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World* const world = new World;  // as long as the process lives
  fuzz::Choices in(fuzz::view(data, size));
  Publisher& publisher = world->publisher;
  const store::Tail tail = publisher.journal->tail();
  Relay relay = world->relays[in.below(world->relays.size())];
  publisher.forward = std::make_unique<peer::ForwardCore>(publisher);
  publisher.under_way.clear();
  publisher.reads.clear();
  double seconds = kStart;
  publisher.forward->durable(tail.last_seq, at(seconds));
  std::uint64_t seen = 0;  // the last question
  double asks = 0;
  while (!in.done()) {
    const base::Now now = at(seconds);
    peer::ForwardCore& forward = *publisher.forward;
    switch (in.below(8)) {
      case 0:
        seconds += 0.01 * in.byte();
        break;
      case 1:
        seconds += in.below(20);
        break;
      case 2:
        publisher.beat(now);
        break;
      case 3:
        forward.failed(any_reject(in), now);
        break;
      case 4:
        if (publisher.reads.empty()) break;
        forward.found(publisher.reads.front().first,
                      any_found(in, *publisher.journal, publisher.reads.front().second), now);
        publisher.reads.pop_front();
        break;
      case 5: {  // in any order, or a second time
        if (publisher.under_way.empty()) break;
        const std::size_t which = in.below(publisher.under_way.size());
        const auto question = publisher.under_way[which].question;
        if (in.byte() != 0)
          publisher.under_way.erase(publisher.under_way.begin() +
                                    static_cast<std::ptrdiff_t>(which));
        forward.answered(question, any_answer(in, relay, tail), now);
        break;
      }
      case 6: {
        if (publisher.under_way.empty()) break;
        const auto message = std::move(publisher.under_way.front());
        publisher.under_way.pop_front();
        forward.answered(message.question, relay.answer(message.kind, message.parts, now), now);
        break;
      }
      default:
        forward.tick(now);
    }
    for (const auto& message : publisher.under_way) {
      const std::size_t most = message.kind == Kind::Rows  ? peer::ForwardCore::kRequestRows
                               : message.kind == Kind::Ask ? 0
                                                           : 1;
      fuzz::require(message.parts.size() <= most, "no request is larger than it may be");
      if (message.question <= seen) continue;
      seen = message.question;
      asks += message.kind == Kind::Ask;
    }
    // What was asked of the journal before is answered for nothing, so that is bounded with it.
    fuzz::require(asks <= 2 + 10 * (seconds - kStart), "it does not begin anew without a pause");
    fuzz::require(!forward.wake() || *forward.wake() <= now.mono + std::chrono::seconds(60),
                  "it goes on by itself");
  }
  publisher.under_way.clear();
  publisher.forward->failed(Reject::Unavailable, at(seconds));
  hand_over(publisher, relay, seconds + 60);
  return 0;
}
