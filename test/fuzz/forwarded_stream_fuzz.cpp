// A relay is handed credentials, rows and heads that are sealed and say what they like. What it
// holds has no hole and one chain, and heads that it passes on claim what is here.
#include "services/relay/forwarded_stream.hpp"
#include "test/bus/peer/core_fixture.hpp"
#include "test/fuzz/fuzz.hpp"

#include <array>
#include <deque>
#include <map>
#include <optional>
#include <utility>
#include <vector>

using namespace mirrorbus;
using Place = relay::ForwardedStream::Place;

namespace {

struct Row {
  proto::BatchHeader header;
  proto::Hash hash;
  std::uint32_t serial = 0;
};

// As HeldStream drives it.
struct Relay {
  std::deque<Row> rows;                     // accepted
  std::size_t pending = 0;                  // the last ones of them, which are not on disk
  std::optional<std::deque<Row>> replaced;  // on disk until the first of these is
  std::map<std::uint64_t, proto::Credential> firsts;
  relay::ForwardedStream core{{}, 0};
  std::vector<proto::Head> heads;  // taken
  std::pair<std::uint64_t, std::uint64_t> passed_on;

  std::size_t durable() const { return rows.size() - pending; }
  const Row* last_durable() const {
    if (replaced) return &replaced->back();
    return durable() == 0 ? nullptr : &rows[durable() - 1];
  }
  store::Tail tail() const {
    const Row* const last = last_durable();
    if (!last) return {};
    return {last->header.epoch, last->header.number, last->header.last_seq(), last->hash, 1};
  }
  std::uint32_t serial() const { return last_durable() ? last_durable()->serial : 0; }

  void credential(const proto::Credential& credential) {
    if (pending > 0) return;  // Busy
    if (credential.serial == 0 && credential.epoch > tail().epoch)
      firsts.insert_or_assign(credential.epoch, credential);
    const auto cut = core.begins(credential);
    if (!cut) return;
    fuzz::require(*cut < core.last(), "what is cut off is here");
    while (!rows.empty() && rows.back().header.last_seq() > *cut) rows.pop_back();
    core.cut_off(tail(), serial());
  }
  void row(const Row& row) {
    const auto place = core.place(row.header, row.serial);
    if (!place) return;
    const std::uint64_t last = rows.empty() ? 0 : rows.back().header.last_seq();
    if (*place == Place::Held)
      return fuzz::require(row.header.first_seq <= last, "what is held is at or below the end");
    if (*place == Place::AfterHole) {
      if (pending > 0) return;  // on its own
      replaced = std::exchange(rows, {});
    } else if (!rows.empty()) {
      const Row& end = rows.back();
      fuzz::require(end.header.last_seq() + 1 == row.header.first_seq, "the next row is next");
      fuzz::require(end.hash == row.header.previous, "and goes on from the last");
      fuzz::require(end.header.epoch <= row.header.epoch, "epochs grow");
      fuzz::require(end.header.epoch < row.header.epoch || end.serial <= row.serial,
                    "serials do not fall");
    }
    core.accept(row.header, row.hash, row.serial);
    rows.push_back(row);
    ++pending;
  }
  void write_one() {
    if (pending == 0) return;
    const Row& row = rows[durable()];
    core.durable(row.header, row.hash, row.serial);
    --pending;
    replaced.reset();
  }
  void fail_to_write() {
    rows.resize(durable());
    if (replaced) rows = *std::exchange(replaced, {});
    pending = 0;
    core.take_back();
  }
  void head(const proto::Head& head, base::Now now) {
    if (!core.head(head, std::to_string(heads.size()), now)) heads.push_back(head);
  }
  void release(base::Now now) {
    while (const auto which = core.release(now)) {
      const proto::Head& head = heads.at(std::stoul(*which));
      fuzz::require(head.last <= tail().last_seq, "a head claims what is here");
      fuzz::require(passed_on < std::pair(head.epoch, head.beat), "heads go on in order");
      passed_on = {head.epoch, head.beat};
    }
  }
  void restart() {
    fail_to_write();
    core = relay::ForwardedStream(tail(), serial());
    for (const auto& [epoch, first] : firsts)
      if (core.begins(first)) core.forget_begun(epoch);
    heads.clear();
    passed_on = {};
  }
  void check() const {
    const proto::ForwardAnswer there = core.how_far();
    fuzz::require(there.through == tail().last_seq && there.epoch == tail().epoch &&
                      there.header == tail().header,
                  "it says what is durable");
    fuzz::require(core.all_durable() == (pending == 0), "it knows what is not");
  }
};

std::uint64_t any_seq(fuzz::Choices& in, const Relay& relay) {
  const std::uint64_t last = relay.rows.empty() ? 0 : relay.rows.back().header.last_seq();
  switch (in.below(4)) {
    case 0:
      return last;
    case 1:
      return last + in.byte();
    case 2:
      return in.byte();
    default:
      return UINT64_MAX - 300 - in.byte();
  }
}

proto::Hash any_hash(fuzz::Choices& in, const Relay& relay) {
  if (in.flag()) return relay.rows.empty() ? proto::Hash{} : relay.rows.back().hash;
  if (relay.rows.empty()) return {};
  return relay.rows[in.below(relay.rows.size())].hash;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Choices in(fuzz::view(data, size));
  Relay relay;
  double seconds = 0;
  std::uint64_t hashes = 0;
  while (!in.done()) {
    const base::Now now = peer::test::at(seconds);
    const Row* const end = relay.rows.empty() ? nullptr : &relay.rows.back();
    switch (in.below(9)) {
      case 0:
        seconds += in.byte();
        break;
      case 1: {
        proto::Credential credential;
        credential.epoch = (end ? end->header.epoch : 0) + in.below(4);
        credential.serial = static_cast<std::uint32_t>(in.below(3));
        credential.pin.last_seq = any_seq(in, relay);
        credential.pin.header = any_hash(in, relay);
        credential.new_journal = in.byte() == 1;
        if (credential.epoch > 0) relay.credential(credential);
        break;
      }
      case 2:
      case 3: {  // as it should be
        Row row;
        row.header.epoch = end ? end->header.epoch : 1;
        row.header.number = end ? end->header.number + 1 : 1;
        row.header.first_seq = end ? end->header.last_seq() + 1 : 1;
        row.header.previous = end ? end->hash : proto::Hash{};
        row.header.count = static_cast<std::uint16_t>(1 + in.below(3));
        row.serial = end ? end->serial : 0;
        // But for this or that.
        const std::uint8_t other = in.byte();
        if (other & 1) row.header.epoch += in.below(3);
        if (other & 2) row.header.number = 1 + in.below(5);
        if (other & 4) row.header.first_seq = std::max<std::uint64_t>(1, any_seq(in, relay));
        if (other & 8) row.header.previous = any_hash(in, relay);
        if (other & 16) row.serial = static_cast<std::uint32_t>(in.below(3));
        if (row.header.first_seq > UINT64_MAX - row.header.count) break;  // does not decode
        row.hash = proto::sha256(std::to_string(++hashes));
        relay.row(row);
        break;
      }
      case 4:
        relay.write_one();
        break;
      case 5:
        if (in.byte() < 16) relay.fail_to_write();
        break;
      case 6: {
        proto::Head head;
        head.epoch = (end ? end->header.epoch : 0) + in.below(3);
        head.beat = in.byte();
        head.time_ns = base::to_ns(now.wall) + (in.byte() == 1 ? 400'000'000'000 : 0);
        head.last = any_seq(in, relay);
        head.oldest = any_seq(in, relay);
        head.batch = in.flag() && end ? end->header.number : in.below(5);
        head.header = any_hash(in, relay);
        relay.head(head, now);
        break;
      }
      case 7:
        relay.release(now);
        break;
      default:
        if (in.byte() < 16) relay.restart();
    }
    relay.check();
  }
  return 0;
}
