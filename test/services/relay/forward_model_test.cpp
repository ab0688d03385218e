// A publisher's ForwardCore and a relay's ForwardedStream, and between them a network that loses
// what is under way; both end and begin again, the publisher also from a copy of its journal, and
// from none.
#include "bus/peer/forward_core.hpp"
#include "services/relay/forwarded_stream.hpp"
#include "test/bus/peer/core_fixture.hpp"
#include "test/support/environment.hpp"

#include <deque>
#include <random>

#include <catch2/catch.hpp>

using namespace mirrorbus;
using proto::Reject;
using Kind = proto::ForwardRequest::Kind;
using Place = relay::ForwardedStream::Place;

namespace {

proto::Answer refused(Reject why) {
  proto::Answer answer;
  answer.refused = why;
  answer.after_ms = 50;
  return answer;
}

// A relay as its drivers make it, but for signatures: rows are durable when it is answered.
struct Relay {
  struct Row {
    proto::BatchHeader header;
    proto::Hash hash;
    std::uint32_t serial;
    proto::Bytes bytes;
  };
  std::deque<Row> rows;                                  // durable
  std::map<proto::Hash, proto::Credential> kept, known;  // on disk; believed since the last start
  std::optional<relay::ForwardedStream> core;
  std::vector<proto::Head> passed_on;
  std::size_t taken = 0, cuts = 0, holes = 0, early_heads = 0;  // what has happened

  Relay() { start(); }

  store::Tail tail() const {
    if (rows.empty()) return {};
    const Row& last = rows.back();
    return {last.header.epoch, last.header.number, last.header.last_seq(), last.hash,
            rows.front().header.first_seq};
  }
  std::uint32_t serial() const { return rows.empty() ? 0 : rows.back().serial; }

  void start() {
    known.clear();
    passed_on.clear();  // a subscriber has its own memory of beats
    core.emplace(tail(), serial());
    std::map<std::uint64_t, const proto::Credential*> firsts;
    for (const auto& [id, credential] : kept)
      if (credential.serial == 0) firsts[credential.epoch] = &credential;
    for (const auto& [epoch, first] : firsts)
      if (core->begins(*first)) core->forget_begun(epoch);
  }

  proto::Answer answer(Kind kind, const std::vector<proto::Bytes>& parts, base::Now now) {
    if (kind == Kind::Credential) {
      const auto sealed = proto::decode_sealed(parts.at(0));
      const auto credential = *proto::decode_credential(sealed->document);
      kept[proto::credential_id(sealed->document)] = known[proto::credential_id(sealed->document)] =
          credential;
      if (const auto cut = core->begins(credential)) {
        ++cuts;
        while (!rows.empty() && rows.back().header.last_seq() > *cut) rows.pop_back();
        core->cut_off(tail(), serial());
      }
    } else if (kind == Kind::Rows) {
      for (const proto::Bytes& part : parts)
        if (const auto why = take(part)) return refused(*why);
    } else if (kind == Kind::Head) {
      const auto sealed = proto::sealed_head({proto::ControlKind::Head, {}, parts.at(0)});
      const auto head = *proto::decode_head(sealed->bytes);
      if (!known.contains(head.credential)) return refused(Reject::UnknownCredential);
      if (head.last > tail().last_seq) ++early_heads;
      if (const auto why = core->head(head, parts.at(0), now)) return refused(*why);
    }
    release(now);
    proto::Answer answer;
    answer.fields = proto::to_fields(core->how_far());
    return answer;
  }

  std::optional<Reject> take(const proto::Bytes& part) {
    const auto row = proto::decode_row(part);
    const auto header = *proto::decode_header(row->header());
    const auto sealer = known.find(header.credential);
    if (sealer == known.end()) return Reject::UnknownCredential;
    const proto::Hash hash = proto::header_hash(row->header());
    const auto place = core->place(header, sealer->second.serial);
    if (!place) return place.error();
    if (*place == Place::Held) return std::nullopt;
    ++taken;
    if (*place == Place::AfterHole) {
      ++holes;
      rows.clear();
    }
    if (!rows.empty()) REQUIRE(rows.back().header.last_seq() + 1 == header.first_seq);
    core->accept(header, hash, sealer->second.serial);
    rows.push_back({header, hash, sealer->second.serial, part});
    core->durable(header, hash, sealer->second.serial);
    return std::nullopt;
  }

  void release(base::Now now) {
    while (const auto bytes = core->release(now)) {
      const auto head =
          *proto::decode_head(proto::sealed_head({proto::ControlKind::Head, {}, *bytes})->bytes);
      REQUIRE(head.last <= tail().last_seq);
      if (!passed_on.empty())
        REQUIRE(std::pair(passed_on.back().epoch, passed_on.back().beat) <
                std::pair(head.epoch, head.beat));
      passed_on.push_back(head);
    }
  }
};

struct Publisher : peer::ForwardActions {
  proto::StreamName name{proto::Scheme::OpenPgp, proto::Bytes(20, 'a'), "pub@example.org"};
  std::unique_ptr<store::MemoryJournal> journal = std::make_unique<store::MemoryJournal>(1 << 26);
  std::unique_ptr<peer::PublisherCore> core;
  std::unique_ptr<peer::ForwardCore> forward;
  std::uint64_t epochs = 0;
  std::uint32_t serial = 0;

  struct Message {
    std::uint64_t question;
    Kind kind;
    std::vector<proto::Bytes> parts;
  };
  std::deque<Message> under_way;
  std::deque<std::pair<std::uint64_t, peer::ForwardRead>> reads;
  std::size_t sent_bytes = 0;

  void send(std::uint64_t question, Kind kind, std::vector<proto::Bytes> parts) override {
    under_way.push_back({question, kind, std::move(parts)});
  }
  void read(std::uint64_t number, const peer::ForwardRead& read) override {
    reads.emplace_back(number, read);
  }
  void reconnect() override { under_way.clear(); }

  void start(base::Now now) {
    under_way.clear();
    reads.clear();
    peer::PublisherOptions options;
    options.base = "org.example.dev";
    const store::Tail tail = journal->tail();
    core = std::make_unique<peer::PublisherCore>(options, name.id(), tail,
                                                 journal->begin_epoch(++epochs * 10));
    serial = 0;
    renew(now);
    forward = std::make_unique<peer::ForwardCore>(*this);
    forward->durable(tail.last_seq, now);
  }
  void renew(base::Now now) {
    proto::Credential next;
    next.stream = name;
    next.epoch = core->epoch();
    next.serial = serial;
    next.issued_ns = next.not_before_ns = base::to_ns(now.wall);
    next.not_after_ns = next.issued_ns + 86'400'000'000'000;
    next.pin = core->pin();
    next.scopes = {"org.example.dev.**"};
    next.new_journal = serial == 0 && journal->tail().last_seq == 0;
    trust::SessionKey key(proto::sha256(fmt::format("{} {}", core->epoch(), serial++)));
    next.session_key = key.public_key();
    const proto::SealedCredential sealed{proto::encode_credential(next), "signed"};
    journal->put_credential(next, sealed);
    core->use_credential(next, proto::credential_id(sealed.document), std::move(key));
  }
  void publish(int events, base::Now now) {
    for (int i = 0; i < events; ++i)
      (void)core->publish("org.example.dev.shell.log.line", proto::Bytes("\x81\xa1n\x01", 4), now);
    while (const auto batch = core->next_batch(now)) {
      journal->append({&batch->row, 1});
      core->durable(*batch);
      forward->durable(core->last_durable(), now);
    }
  }
  void beat(base::Now now) {
    if (const auto head = core->head(now, journal->tail().oldest_seq))
      forward->head(*head, core->credential_id(), now);
  }
  // As a copy from when `last` was the end would have it.
  void restore(std::uint64_t last) {
    auto copy = std::make_unique<store::MemoryJournal>(1 << 26);
    const store::Tail tail = journal->tail();
    std::uint64_t epoch = 0;
    for (const proto::Bytes& bytes : journal->read({tail.oldest_seq, last, "", 1 << 26}).rows) {
      const auto row = proto::decode_row(bytes);
      const auto header = *proto::decode_header(row->header());
      if (header.last_seq() > last) break;
      epoch = header.epoch;
      copy->append(std::vector<store::JournalRow>{
          {header.epoch, header.number, header.first_seq, header.last_seq(), header.time_ns,
           proto::header_hash(row->header()), bytes, {}}});
    }
    for (const auto& sealed : journal->credentials(epoch + 1, 10'000)) {
      const auto credential = *proto::decode_credential(sealed.document);
      copy->put_credential(credential, sealed);
    }
    journal = std::move(copy);
  }
};

struct World {
  std::mt19937_64 random;
  Publisher publisher;
  Relay relay;
  double seconds = 0, next_beat = 0;

  explicit World(std::uint64_t seed) : random(seed) { publisher.start(now()); }
  base::Now now() const { return peer::test::at(seconds); }
  std::uint64_t below(std::uint64_t n) { return random() % n; }

  void step(bool faults) {
    seconds += 0.01 * static_cast<double>(1 + below(10));
    if (seconds >= next_beat) {
      publisher.beat(now());
      next_beat = seconds + 1;
    }
    publisher.forward->tick(now());
    for (std::uint64_t n = below(8); n > 0 && !publisher.reads.empty(); --n) {
      const auto [number, read] = publisher.reads.front();
      publisher.reads.pop_front();
      publisher.forward->found(number, peer::forward_read(*publisher.journal, read), now());
    }
    for (std::uint64_t n = below(8); n > 0 && !publisher.under_way.empty(); --n) {
      const auto message = std::move(publisher.under_way.front());
      publisher.under_way.pop_front();
      const proto::Answer answer = relay.answer(message.kind, message.parts, now());
      // Taken, and the answer lost with the connection.
      if (faults && below(40) == 0) {
        publisher.forward->failed(Reject::Unavailable, now());
        break;
      }
      publisher.forward->answered(message.question, answer, now());
    }
  }

  void publish_some() {
    for (std::uint64_t n = below(20); n > 0; --n)
      publisher.publish(1 + static_cast<int>(below(40)), now());
  }

  void fault() {
    switch (below(8)) {
      case 0:
        publisher.start(now());
        break;
      case 1: {  // from a copy
        const store::Tail tail = publisher.journal->tail();
        if (tail.last_seq > tail.oldest_seq)
          publisher.restore(tail.oldest_seq + below(tail.last_seq - tail.oldest_seq + 1));
        publisher.start(now());
        break;
      }
      case 2:
        if (below(4) == 0) {  // from nothing
          publisher.journal = std::make_unique<store::MemoryJournal>(1 << 26);
          publisher.start(now());
        }
        break;
      case 3:
        publisher.renew(now());
        break;
      case 4:  // retention, also of what the relay has not had yet
        publish_some();
        publisher.journal->prune(0, below(30) * 500);
        break;
      case 5:
        relay.start();
        publisher.forward->failed(Reject::Unavailable, now());
        break;
      case 6:
        publisher.forward->failed(Reject::Unavailable, now());
        break;
      case 7:  // retention there
        while (relay.rows.size() > 1 && below(3) != 0) relay.rows.pop_front();
        break;
    }
  }

  void check() {
    for (std::size_t i = 1; i < relay.rows.size(); ++i)
      REQUIRE(relay.rows[i - 1].header.last_seq() + 1 == relay.rows[i].header.first_seq);
    const store::Tail tail = publisher.journal->tail();
    REQUIRE(relay.tail().last_seq == tail.last_seq);
    if (tail.last_seq == 0) return;
    REQUIRE(relay.tail().header == tail.header);
    // All that both have is the same.
    for (const Relay::Row& row : relay.rows) {
      if (row.header.first_seq < tail.oldest_seq) continue;
      const auto here =
          publisher.journal->read({row.header.first_seq, row.header.first_seq, "", 1});
      REQUIRE(here.rows.size() == 1);
      REQUIRE(here.rows.front() == row.bytes);
    }
    // And the newest head has been passed on.
    REQUIRE(!relay.passed_on.empty());
    REQUIRE(relay.passed_on.back().epoch == publisher.core->epoch());
    REQUIRE(relay.passed_on.back().last == tail.last_seq);
  }
};

}  // namespace

TEST_CASE("whatever ends and comes back, the relay has what its publisher has", "[forward]") {
  const std::uint64_t from = test::number_from("MIRRORBUS_SEED", 1);
  const std::uint64_t seeds = test::number_from("MIRRORBUS_SEEDS", 150);
  std::size_t taken = 0, cuts = 0, holes = 0, early_heads = 0;
  for (std::uint64_t seed = from; seed < from + seeds; ++seed) {
    INFO("seed " << seed);
    World world(seed);
    for (int round = 0; round < 30; ++round) {
      world.publish_some();
      for (std::uint64_t steps = world.below(60); steps > 0; --steps) world.step(true);
      if (world.below(2) == 0) world.fault();
    }
    world.publisher.publish(1, world.now());
    for (int step = 0; step < 3000; ++step) world.step(false);
    world.check();
    taken += world.relay.taken;
    cuts += world.relay.cuts;
    holes += world.relay.holes;
    early_heads += world.relay.early_heads;
  }
  // It was a test of something.
  CHECK(taken > 20 * seeds);
  CHECK(cuts > seeds / 2);
  CHECK(holes > seeds / 2);
  CHECK(early_heads > seeds / 2);
}
