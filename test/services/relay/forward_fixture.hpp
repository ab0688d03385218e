// A relay that is handed a stream, and the publisher that does it, both without network and disk.
// What must not be is a std::logic_error.
#pragma once

#include "bus/peer/forward_core.hpp"
#include "services/relay/forwarded_stream.hpp"
#include "test/bus/peer/core_fixture.hpp"

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

namespace mirrorbus::relay::test {

using peer::test::at;
using proto::Reject;
using Kind = proto::ForwardRequest::Kind;
using Place = ForwardedStream::Place;

inline proto::Answer refused(Reject why) {
  proto::Answer answer;
  answer.refused = why;
  answer.after_ms = 50;
  return answer;
}

inline void must(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
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
  std::optional<ForwardedStream> core;
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
    must(proto::is_sound_row(part), "what the disk has changed is not sent");
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
    if (!rows.empty())
      must(rows.back().header.last_seq() + 1 == header.first_seq, "a row follows the last one");
    core->accept(header, hash, sealer->second.serial);
    rows.push_back({header, hash, sealer->second.serial, part});
    core->durable(header, hash, sealer->second.serial);
    return std::nullopt;
  }

  void release(base::Now now) {
    while (const auto bytes = core->release(now)) {
      const auto head =
          *proto::decode_head(proto::sealed_head({proto::ControlKind::Head, {}, *bytes})->bytes);
      must(head.last <= tail().last_seq, "a head claims what is here");
      if (!passed_on.empty())
        must(std::pair(passed_on.back().epoch, passed_on.back().beat) <
                 std::pair(head.epoch, head.beat),
             "heads go on in order");
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
      copy->append(std::vector<store::JournalRow>{{header.epoch,
                                                   header.number,
                                                   header.first_seq,
                                                   header.last_seq(),
                                                   header.time_ns,
                                                   proto::header_hash(row->header()),
                                                   bytes,
                                                   {}}});
    }
    for (const auto& sealed : journal->credentials(epoch + 1, 10'000)) {
      const auto credential = *proto::decode_credential(sealed.document);
      copy->put_credential(credential, sealed);
    }
    journal = std::move(copy);
  }
};

// Everything that is under way, until nothing is; what is read is read from `journal`.
inline void settle(Publisher& publisher, store::Journal& journal, Relay& relay, base::Now now) {
  while (!publisher.reads.empty() || !publisher.under_way.empty()) {
    if (!publisher.reads.empty()) {
      const auto [number, read] = publisher.reads.front();
      publisher.reads.pop_front();
      publisher.forward->found(number, peer::forward_read(journal, read), now);
      continue;
    }
    const auto message = std::move(publisher.under_way.front());
    publisher.under_way.pop_front();
    publisher.forward->answered(message.question, relay.answer(message.kind, message.parts, now),
                                now);
  }
}

}  // namespace mirrorbus::relay::test
