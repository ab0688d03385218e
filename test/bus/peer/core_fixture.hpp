// A publisher and a subscriber, both only their pure cores, with nothing between them but what a
// test hands over.
#pragma once

#include "bus/peer/publisher_core.hpp"
#include "bus/peer/stream_verbs.hpp"
#include "bus/peer/subscriber_core.hpp"
#include "bus/store/memory_journal.hpp"
#include "proto/sha256.hpp"

#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>

namespace mirrorbus::peer::test {

inline base::Now at(double seconds) {
  const auto past =
      std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(seconds));
  return {base::WallTime(std::chrono::seconds(1'800'000'000)) + past,
          base::MonoTime(std::chrono::seconds(1000)) + past};
}

// One run after another of a publisher on one journal.
struct TestPublisher {
  proto::StreamName name{proto::Scheme::OpenPgp, proto::Bytes(20, 'a'), "pub@example.org"};
  proto::Hash id = name.id();
  store::MemoryJournal journal{1 << 24};
  std::unique_ptr<PublisherCore> core;
  proto::Bytes sealed;  // the credential in use
  std::uint32_t serial = 0;

  TestPublisher() { start(at(0)); }

  void start(base::Now now) {
    const store::Tail tail = journal.tail();
    PublisherOptions options;
    options.base = "org.example.dev";
    core = std::make_unique<PublisherCore>(options, id, tail, journal.begin_epoch(tail.epoch + 1));
    serial = 0;
    renew(now);
  }
  proto::Credential credential(std::uint64_t epoch, std::uint32_t number, base::Now now) const {
    proto::Credential credential;
    credential.stream = name;
    credential.epoch = epoch;
    credential.serial = number;
    credential.issued_ns = credential.not_before_ns = base::to_ns(now.wall);
    credential.not_after_ns = credential.issued_ns + 86'400'000'000'000;
    credential.pin = core->pin();
    credential.scopes = {"org.example.dev.**"};
    return credential;
  }
  void renew(base::Now now) {
    proto::Credential next = credential(core->epoch(), serial, now);
    next.new_journal = journal.tail().last_seq == 0;
    trust::SessionKey key(proto::sha256(fmt::format("{} {}", core->epoch(), serial++)));
    next.session_key = key.public_key();
    const proto::SealedCredential made{proto::encode_credential(next), "signed"};
    journal.put_credential(next, made);
    sealed = proto::encode_sealed(made);
    core->use_credential(next, proto::credential_id(made.document), std::move(key));
  }
  proto::Bytes announcement() const {
    return proto::encode_control(proto::ControlKind::Credential, id, sealed);
  }
  proto::Bytes head(base::Now now) {
    return proto::encode_control(proto::ControlKind::Head, id,
                                 *core->head(now, journal.tail().oldest_seq));
  }
  // Made durable; what would be sent.
  proto::Bytes publish(base::Now now, const std::string& topic = "org.example.dev.shell.log.line") {
    (void)core->publish(topic, proto::Bytes("\x81\xa1n\x01", 4), now);
    const auto batch = core->next_batch(now);
    journal.append({&batch->row, 1});
    core->durable(*batch);
    proto::Bytes frame;
    proto::append_event_frame(frame, batch->frame(0));
    return frame;
  }
};

struct TestSubscriber : SubscriberActions {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> delivered;  // (epoch, seq)
  std::vector<Gap> gaps;
  std::vector<proto::Hash> to_check;
  std::vector<Question> questions;
  std::vector<proto::Head> heads;
  std::unique_ptr<SubscriberCore> core;

  explicit TestSubscriber(const TestPublisher& publisher, store::Cursors cursors = {},
                          const char* pattern = "**", Start start = StartNow{}) {
    core = std::make_unique<SubscriberCore>(options(pattern, start), policy(publisher.name), std::move(cursors),
                                            *this);
  }
  static SubscriberOptions options(const char* pattern, Start start) {
    SubscriberOptions options;
    options.start = start;
    options.patterns.push_back(*proto::TopicPattern::parse(pattern));
    return options;
  }
  static trust::Policy policy(const proto::StreamName& name) {
    trust::Rule rule;
    rule.topics.push_back(*proto::TopicPattern::parse("org.example.dev.**"));
    rule.keys.push_back({name.scheme, name.fingerprint});
    return trust::Policy({rule});
  }

  Outcome deliver(const Delivery& event) override {
    delivered.emplace_back(event.epoch, event.seq);
    return Outcome::Delivered;
  }
  void gap(const Gap& gap) override { gaps.push_back(gap); }
  void check_credential(const KnownCredential& known) override { to_check.push_back(known.id); }
  void ask(const Question& question) override { questions.push_back(question); }
  void head_heard(const proto::Head& head) override { heads.push_back(head); }

  // gpg says yes to all that wait.
  void believe(const TestPublisher& publisher, base::Now now) {
    for (const proto::Hash& id : std::exchange(to_check, {}))
      core->judged(id, CredentialVerdict{publisher.name.fingerprint, 0}, now);
  }
  // The publisher answers all that wait, but for credentials of epoch `hidden`, and for the row
  // with seq 2 where `leaves_out` says so.
  void answer(TestPublisher& publisher, base::Now now, std::uint64_t hidden = 0,
              bool (*leaves_out)(const Question&) = nullptr) {
    for (const Question& question : std::exchange(questions, {})) {
      const auto request = proto::decode_request(
          proto::encode_request({question.id, question.verb, question.args}));
      auto answer = proto::decode_answer(
          proto::encode_answer(*StreamVerbs(publisher.id, publisher.journal).answer(*request)));
      std::erase_if(answer->parts, [&](const proto::Bytes& part) {
        const auto sealed = proto::decode_sealed(part);
        return question.verb == "credential" && sealed && hidden != 0 &&
               proto::decode_credential(sealed->document)->epoch == hidden;
      });
      std::erase_if(answer->parts, [&](const proto::Bytes& part) {
        const auto row = proto::decode_row(part);
        return question.verb == "replay" && leaves_out && leaves_out(question) && row &&
               proto::decode_header(row->header())->first_seq == 2;
      });
      core->answered(question.id, std::move(answer), 1, now);
    }
  }
};

}  // namespace mirrorbus::peer::test
