// A subscriber between a publisher and whoever writes the input: it decides what is published,
// lost, sent again, damaged, answered, refused; when the publisher crashes, or comes back as an
// older copy of itself; and what clocks do. The publisher's own word is never forged (where
// `treacherous_` is false), so whatever comes:
//   - only what was published is delivered, in order, each event once, over restarts as well;
//   - no gap names what was delivered, and nothing comes after it was named lost;
//   - when all is well again every event there still is has been delivered or named lost.
// Where the publisher itself says what is not true, the subscriber need only live on.
#include "test/bus/peer/core_fixture.hpp"
#include "test/fuzz/fuzz.hpp"

#include <algorithm>
#include <map>
#include <set>

using namespace mirrorbus;
using namespace mirrorbus::peer;
using Key = std::pair<std::uint64_t, std::uint64_t>;  // epoch, seq
using fuzz::Choices;
using fuzz::require;

namespace {

constexpr const char* kTopics[] = {"org.example.dev.shell.log.line",
                                   "org.example.dev.shell.cron.done",
                                   "org.example.dev.mirror.tree.kernel.update"};
constexpr std::size_t kMostFrames = 512;
constexpr SourceId kFriend = 9;  // who is right, in the end

// Small, or at the end of what 64 bits hold.
std::uint64_t any_number(Choices& in) {
  const std::uint8_t byte = in.byte();
  return byte < 224 ? byte : UINT64_MAX - (255 - byte);
}

class Publisher {
 public:
  Publisher() { start(peer::test::at(0)); }

  const proto::StreamName name{proto::Scheme::OpenPgp, proto::Bytes(20, 'a'), "pub@example.org"};
  const proto::Hash id = name.id();
  std::unique_ptr<store::MemoryJournal> journal = std::make_unique<store::MemoryJournal>(1 << 24);
  std::map<Key, std::string> published;  // all there ever was
  std::map<Key, std::string> durable;    // what its journal's history has
  std::vector<store::JournalRow> every_row;
  std::vector<proto::Bytes> every_credential;
  std::set<proto::Hash> signed_credentials;
  std::vector<proto::Bytes> frames;  // all that was ever sent
  std::unique_ptr<PublisherCore> core;
  std::uint64_t cut_below = 0;  // seqs that at some time it has not had any more

  void start(base::Now now) {
    const store::Tail tail = journal->tail();
    top_epoch_ = journal->begin_epoch(std::max(tail.epoch, top_epoch_) + 1);
    PublisherOptions options;
    options.base = "org.example.dev";
    core = std::make_unique<PublisherCore>(options, id, tail, top_epoch_);
    serial_ = 0;
    renew(now, tail.last_seq == 0);
  }

  void renew(base::Now now, bool new_journal = false) {
    proto::Credential next;
    next.epoch = core->epoch();
    next.serial = serial_++;
    next.pin = core->pin();
    next.new_journal = new_journal;
    trust::SessionKey key(proto::sha256(fmt::format("{} {}", next.epoch, next.serial)));
    const proto::SealedCredential made = make(next, key, now);
    journal->put_credential(next, made);
    credentials_.emplace_back(next, made);
    core->use_credential(next, proto::credential_id(made.document), std::move(key));
  }

  // Completes the credential, announces it.
  proto::SealedCredential make(proto::Credential& next, const trust::SessionKey& key,
                               base::Now now) {
    next.stream = name;
    next.issued_ns = next.not_before_ns = base::to_ns(now.wall);
    next.not_after_ns = next.issued_ns + 86'400'000'000'000;
    next.scopes = {"org.example.dev.**"};
    next.session_key = key.public_key();
    proto::SealedCredential made{proto::encode_credential(next), "signed"};
    signed_credentials.insert(proto::credential_id(made.document));
    every_credential.push_back(proto::encode_sealed(made));
    send(proto::encode_control(proto::ControlKind::Credential, id, every_credential.back()));
    return made;
  }

  proto::Bytes head(base::Now now) {
    return proto::encode_control(proto::ControlKind::Head, id,
                                 *core->head(now, journal->tail().oldest_seq));
  }

  void publish(Choices& in, base::Now now) {
    for (std::size_t events = 1 + in.below(4); events > 0; --events) {
      const char* const topic = kTopics[in.below(std::size(kTopics))];
      (void)core->publish(topic, proto::Bytes("\x81\xa1n\x01", 4), now);
    }
    const auto batch = core->next_batch(now);
    if (!batch) return;
    commit(batch->row);
    core->durable(*batch);
    for (std::size_t i = 0; i < batch->items.size(); ++i) {
      proto::Bytes frame;
      proto::append_event_frame(frame, batch->frame(i));
      send(std::move(frame));
    }
  }

  // Its disk comes back as an older copy of itself.
  void restore(std::size_t keep, base::Now now) {
    rows_.resize(std::min(keep, rows_.size()));
    journal = std::make_unique<store::MemoryJournal>(1 << 24);
    const Key last = rows_.empty() ? Key{} : Key{rows_.back().epoch, rows_.back().last_seq};
    for (const store::JournalRow& row : rows_) journal->append({&row, 1});
    std::erase_if(credentials_, [&](const auto& c) { return c.first.epoch > last.first; });
    for (const auto& [credential, sealed] : credentials_)
      journal->put_credential(credential, sealed);
    durable.erase(durable.upper_bound(last), durable.end());
    start(now);
  }

  void cut(std::size_t rows) {
    if (rows < rows_.size()) journal->prune(rows_[rows].time_ns, UINT64_MAX);
    cut_below = std::max(cut_below, journal->tail().oldest_seq);
  }

  void send(proto::Bytes frame) {
    if (frames.size() < kMostFrames) frames.push_back(std::move(frame));
  }

 private:
  void commit(const store::JournalRow& row) {
    journal->append({&row, 1});
    rows_.push_back(row);
    every_row.push_back(row);
    const auto decoded = proto::decode_row(row.bytes);
    for (std::size_t i = 0; i < decoded->items.size(); ++i) {
      const Key key{row.epoch, row.first_seq + i};
      published[key] = durable[key] = std::string(decoded->items[i].topic);
    }
  }

  std::vector<store::JournalRow> rows_;  // of the journal, those cut off as well
  std::vector<std::pair<proto::Credential, proto::SealedCredential>> credentials_;
  std::uint64_t top_epoch_ = 0;
  std::uint32_t serial_ = 0;
};

class Run : public SubscriberActions {
 public:
  explicit Run(Choices in) : in_(in) {
    const std::uint8_t mode = in_.byte();
    pattern_ = mode & 1 ? "org.example.dev.shell.**" : "**";
    from_start_ = (mode & 2) == 0;
    treacherous_ = (mode & 4) != 0;
    // From the first event on: then every loss counts.
    if (from_start_) cursors_[publisher_.id] = {1, 0, 0, 0, 1};
    start();
  }

  void go() {
    while (!in_.done()) step();
    if (!treacherous_) heal();
  }

 private:
  struct Lost {
    Key from, to;
  };
  static constexpr Key kOpen{UINT64_MAX, UINT64_MAX};

  base::Now now() const {
    base::Now now = peer::test::at(0);
    now.mono += past_;
    now.wall += past_ + wall_offset_;
    return now;
  }
  base::Now publishers_now() const {
    base::Now now = peer::test::at(0);
    now.mono += past_;
    now.wall += past_;
    return now;
  }

  void start() {
    SubscriberOptions options;
    options.patterns.push_back(*proto::TopicPattern::parse(pattern_));
    options.gap_after = std::chrono::seconds(20);
    options.replay_bytes = 2048;
    if (!from_start_) options.start = StartOldest{};
    to_check_.clear();
    questions_.clear();
    core_ = std::make_unique<SubscriberCore>(std::move(options), policy(), cursors_, *this);
  }
  trust::Policy policy() const {
    trust::Rule rule;
    rule.topics.push_back(*proto::TopicPattern::parse("org.example.dev.**"));
    rule.keys.push_back({publisher_.name.scheme, publisher_.name.fingerprint});
    return trust::Policy({rule});
  }

  // ---- what the core says

  void said(Key from, Key to) {
    if (treacherous_) return;
    if (!lost_.empty() && lost_.back().to == kOpen) lost_.back().to = {from.first, from.second - 1};
    require(from > last_, "what comes next comes after what came before");
    last_ = to;
  }
  Outcome deliver(const Delivery& event) override {
    const Key key{event.epoch, event.seq};
    require(delivered_.insert(key).second || treacherous_, "an event is delivered once");
    require(proto::TopicPattern::parse(pattern_)->matches(event.topic),
            "what was not asked for is not delivered");
    if (!treacherous_) {
      const auto it = publisher_.published.find(key);
      require(it != publisher_.published.end() && it->second == event.topic,
              "only what was published is delivered");
    }
    said(key, key);
    return Outcome::Delivered;
  }
  void gap(const Gap& gap) override {
    require(!gap.to || *gap.to >= gap.from, "a gap ends after its beginning");
    const Key before = last_;
    said({gap.epoch, gap.from}, {gap.epoch, gap.to.value_or(gap.from - 1)});
    // Who has joined does not know which epochs there were before: it names the one it joined.
    if (!from_start_) last_ = before;
    lost_.push_back({{gap.epoch, gap.from}, gap.to ? Key{gap.epoch, *gap.to} : kOpen});
    require(lost_.size() < 10'000, "gaps come to an end");
  }
  void check_credential(const KnownCredential& known) override { to_check_.push_back(known.id); }
  void ask(const Question& question) override {
    questions_.push_back(question);
    require(questions_.size() < 10'000, "questions wait for answers");
  }

  // ---- what the input decides

  void step() {
    switch (in_.below(treacherous_ ? 24 : 20)) {
      case 0: return publisher_.publish(in_, publishers_now());
      case 1: return publisher_.send(publisher_.head(publishers_now()));
      case 2: return publisher_.renew(publishers_now());
      case 3: return publisher_.start(publishers_now());
      case 4: return publisher_.restore(in_.byte(), publishers_now());
      case 5: return publisher_.cut(in_.byte());
      case 6: return hear_all();
      case 7: return hear(some_frame());
      case 8: return hear(damaged(some_frame()));
      case 9: return hear(proto::Bytes(in_.bytes()));
      case 10: return believe();
      case 11: return judge_wrongly();
      case 12: return answer_all(in_.byte());
      case 13: return answer_wrongly();
      case 14: return pass(std::chrono::milliseconds(10 * in_.byte()));
      case 15: return pass(std::chrono::seconds(in_.byte()));
      case 16: wall_offset_ = std::chrono::seconds(10 * (in_.byte() - 128)); return;
      case 17:
        cursors_ = core_->cursors();
        return start();
      case 18: return change_policy();
      case 19: return inspect();
      case 20: return betray_by_credential();
      case 21: return betray_by_head();
      default: return betray_by_batch();
    }
  }

  proto::Bytes some_frame() {
    return publisher_.frames.empty() ? proto::Bytes()
                                     : publisher_.frames[in_.below(publisher_.frames.size())];
  }
  proto::Bytes damaged(proto::Bytes bytes) {
    if (bytes.empty()) return bytes;
    if (in_.flag()) {
      bytes.resize(in_.below(bytes.size()));
    } else {
      char& byte = bytes[in_.below(bytes.size())];
      byte = static_cast<char>(byte ^ in_.byte());
    }
    return bytes;
  }
  void hear(const proto::Bytes& frame) { core_->frame(frame, in_.byte() % 3, now()); }
  void hear_all() {
    for (; heard_ < publisher_.frames.size(); ++heard_)
      core_->frame(publisher_.frames[heard_], kFriend, now());
  }

  void believe() {
    for (const proto::Hash& id : std::exchange(to_check_, {}))
      if (publisher_.signed_credentials.contains(id))
        core_->judged(id, CredentialVerdict{publisher_.name.fingerprint, 0}, now());
      else
        core_->judged(id, proto::refuse(proto::Reject::BadSignature), now());
  }
  void judge_wrongly() {
    if (to_check_.empty()) return;
    const proto::Hash id = to_check_.back();
    to_check_.pop_back();
    if (in_.flag()) {
      core_->judged(id, proto::refuse(proto::Reject::Unavailable), now());
      return;
    }
    denied_ = true;
    core_->judged(id, CredentialVerdict{proto::Bytes(20, 'z'), 0}, now());
  }

  void change_policy() {
    const bool allow = in_.flag();
    denied_ |= !allow;
    core_->set_policy(allow ? policy() : trust::Policy());
  }

  proto::Answer true_answer(const Question& question) {
    const auto request =
        proto::decode_request(proto::encode_request({question.id, question.verb, question.args}));
    auto answer = proto::decode_answer(
        proto::encode_answer(*StreamVerbs(publisher_.id, *publisher_.journal).answer(*request)));
    return std::move(*answer);
  }
  void answer_all(std::size_t limit) {
    std::vector<Question> asked = std::exchange(questions_, {});
    for (const Question& question : asked) {
      if (limit-- == 0) break;
      core_->answered(question.id, true_answer(question), kFriend, now());
    }
  }
  void answer_wrongly() {
    if (questions_.empty()) return;
    const std::size_t which = in_.below(questions_.size());
    const Question question = questions_[which];
    questions_.erase(questions_.begin() + static_cast<std::ptrdiff_t>(which));
    const SourceId source = in_.byte() % 3;
    switch (in_.below(4)) {
      case 0:
        core_->answered(question.id, proto::refuse(proto::Reject::Unavailable), source, now());
        return;
      case 1: {
        proto::Answer answer = true_answer(question);
        if (!answer.parts.empty()) {
          proto::Bytes& part = answer.parts[in_.below(answer.parts.size())];
          part = damaged(std::move(part));
        }
        core_->answered(question.id, std::move(answer), source, now());
        return;
      }
      default: {
        // Parts that are genuine, though not what was asked for, under numbers that are not.
        lied_ |= question.verb == "replay" && std::string_view(pattern_) != "**";
        proto::Answer answer;
        answer.id = question.id;
        proto::Map fields =
            proto::to_fields({any_number(in_), in_.flag(), any_number(in_), any_number(in_)});
        fields.emplace_back("before", any_number(in_));
        answer.fields = std::move(fields);
        for (std::size_t parts = in_.below(8); parts > 0; --parts) {
          if (question.verb == "replay" && !publisher_.every_row.empty())
            answer.parts.push_back(
                publisher_.every_row[in_.below(publisher_.every_row.size())].bytes);
          else
            answer.parts.push_back(
                publisher_.every_credential[in_.below(publisher_.every_credential.size())]);
        }
        core_->answered(question.id, std::move(answer), source, now());
      }
    }
  }

  void pass(base::Duration time) {
    past_ += time;
    core_->tick(now());
    (void)core_->streams(now());
  }

  void inspect() {
    const auto inspected = core_->inspect(some_frame(), publisher_.id, now());
    if (inspected && !treacherous_)
      require(publisher_.published.contains({inspected->epoch, inspected->seq}),
              "only what was published passes inspection");
  }

  // ---- a publisher that signs what is not so

  void betray_by_credential() {
    trust::SessionKey key(proto::sha256("treacherous"));
    proto::Credential next;
    next.epoch = any_number(in_);
    next.serial = in_.byte();
    next.pin = {any_number(in_), any_number(in_), any_number(in_), proto::sha256("pin")};
    next.new_journal = in_.flag();
    betrayed_epoch_ = next.epoch;
    betrayed_credential_ =
        proto::credential_id(publisher_.make(next, key, publishers_now()).document);
  }
  void betray_by_head() {
    const trust::SessionKey key(proto::sha256("treacherous"));
    proto::Head head;
    head.stream = publisher_.id;
    head.credential = betrayed_credential_;
    head.epoch = betrayed_epoch_;
    head.beat = any_number(in_);
    head.time_ns = base::to_ns(publishers_now().wall);
    head.since = any_number(in_);
    head.last = any_number(in_);
    head.oldest = any_number(in_);
    head.batch = any_number(in_);
    if (in_.flag()) head.pairs.push_back({in_.flag() ? kTopics[0] : "", any_number(in_)});
    proto::Bytes sealed = proto::encode_head(head);
    const auto seal = key.sign(sealed);
    sealed.append(seal.data(), seal.size());
    publisher_.send(proto::encode_control(proto::ControlKind::Head, publisher_.id, sealed));
  }
  void betray_by_batch() {
    const trust::SessionKey key(proto::sha256("treacherous"));
    const std::uint64_t seq = any_number(in_), delta = any_number(in_);
    proto::Bytes event;
    proto::BackPointers before{std::vector(in_.below(4), delta)};
    before.exact = static_cast<std::uint8_t>(in_.below(before.deltas.size() + 1));
    proto::append_event(event, seq, base::to_ns(publishers_now().wall), in_.byte() % 6, before,
                        "\x80");
    const std::string topic = kTopics[in_.below(std::size(kTopics))];
    proto::BatchHeader header;
    header.credential = betrayed_credential_;
    header.epoch = betrayed_epoch_;
    header.number = any_number(in_);
    header.first_seq = seq;
    header.count = 1;
    header.time_ns = base::to_ns(publishers_now().wall);
    header.root = proto::event_leaf(topic, event);
    proto::Bytes sealed;
    proto::append_header(sealed, header);
    const auto seal = key.sign(sealed);
    sealed.append(seal.data(), seal.size());
    proto::Bytes frame;
    proto::append_event_frame(frame, {topic, sealed, {}, event});
    publisher_.send(std::move(frame));
    proto::append_row_item(sealed, topic, event);
    store::JournalRow row;
    row.bytes = std::move(sealed);
    publisher_.every_row.push_back(std::move(row));
  }

  // ---- the end

  // Everybody is there and well; gaps are given up one after another, each after its time.
  void heal() {
    wall_offset_ = {};
    core_->set_policy(policy());
    for (int second = 0; second < 600; ++second) {
      core_->frame(proto::encode_control(proto::ControlKind::Credential, publisher_.id,
                                         publisher_.every_credential.back()),
                   kFriend, now());
      believe();
      core_->frame(publisher_.head(publishers_now()), kFriend, now());
      for (int turn = 0; turn < 4; ++turn) {
        answer_all(SIZE_MAX);
        believe();
        pass(std::chrono::milliseconds(250));
      }
      if (settled()) break;
    }
    if (denied_) return;
    require(settled(), "a subscriber comes to its publisher's end");
    for (const auto& [key, topic] : publisher_.durable) {
      if (!proto::TopicPattern::parse(pattern_)->matches(topic) || delivered_.contains(key))
        continue;
      // It has joined at the oldest that there was then.
      if (!from_start_ && key.second < publisher_.cut_below) continue;
      const bool named = std::ranges::any_of(lost_, [&](const Lost& gap) {
        if (gap.from <= key && key <= gap.to) return true;
        return !from_start_ && key.first < gap.from.first && gap.from.second <= key.second &&
               key.second <= gap.to.second;
      });
      require(named || (lied_ && !told_of(key)), "no event is lost silently");
    }
  }
  // Below prefix.env a source can deny what nothing signed speaks of. The event after it does, once it
  // is had: within one run of the publisher its back-pointer is exact.
  bool told_of(const Key& lost) const {
    for (auto next = publisher_.durable.upper_bound(lost);
         next != publisher_.durable.end() && next->first.first == lost.first; ++next)
      if (proto::TopicPattern::parse(pattern_)->matches(next->second))
        return delivered_.contains(next->first);
    return false;
  }
  bool settled() const {
    const auto streams = core_->streams(now());
    return streams.size() == 1 && streams[0].state == StreamState::Current &&
           streams[0].epoch == publisher_.core->epoch() &&
           streams[0].position == publisher_.core->last_durable();
  }

  Choices in_;
  Publisher publisher_;
  const char* pattern_ = "";
  bool from_start_ = true, treacherous_ = false;
  bool lied_ = false;  // a source, of what lies under a prefix
  bool denied_ = false;  // events may have been, by policy or by gpg's word on a credential
  base::Duration past_{}, wall_offset_{};
  store::Cursors cursors_;
  std::unique_ptr<SubscriberCore> core_;
  std::vector<proto::Hash> to_check_;
  std::vector<Question> questions_;
  std::size_t heard_ = 0;  // frames
  std::uint64_t betrayed_epoch_ = 1;
  proto::Hash betrayed_credential_;

  std::set<Key> delivered_;
  std::vector<Lost> lost_;
  Key last_{};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size <= 2048) Run(Choices(fuzz::view(data, size))).go();
  return 0;
}
