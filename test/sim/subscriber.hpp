// A subscriber of a simulated network, and the account of what became of every event.
#pragma once

#include "test/sim/publisher.hpp"

#include "bus/peer/stream_verbs.hpp"
#include "bus/peer/subscriber_core.hpp"

#include <algorithm>
#include <deque>
#include <set>

namespace mirrorbus::sim {

inline constexpr base::Duration kGapAfter = std::chrono::seconds(20);
inline constexpr char kDeniedUnder[] = "org.example.dev.secret";

class Subscriber final : public peer::SubscriberActions {
 public:
  Subscriber(World& world, std::vector<std::string> patterns, std::vector<Publisher*> publishers)
      : world_(world), patterns_(std::move(patterns)), publishers_(std::move(publishers)) {
    // It was there from the first event on: then every loss counts.
    for (Publisher* publisher : publishers_) cursors_[publisher->id()] = {1, 0, 0, 0, 1};
    start();
    save_cursor();
    tick();
  }

  std::string problem;
  double drop = 0;               // of frames
  bool partitioned = false;      // nothing comes through, either way
  base::Duration wall_offset{};
  bool echoes = false;           // somebody on the way sends old frames again

  // Comes only then, and wants all there is, or what there is since `from`.
  void join_later(base::Duration when, std::optional<base::Duration> from) {
    away_ = true;
    cursors_.clear();
    if (from) start_ = peer::StartTime{base::to_ns(world_.now(*from).wall)};
    start();
    world_.at(when, [this] {
      away_ = false;
      for (const Publisher* publisher : publishers_)
        if (publisher->alive()) hear(publisher->announcement());
    });
  }

  void hear(const proto::Bytes& frame) {
    if (away_ || partitioned || world_.time() < deaf_until_) return;
    if (echoes) {
      heard_.push_back(frame);
      if (heard_.size() > kEchoed) heard_.pop_front();
      if (world_.chance(0.1)) arrive(heard_[world_.below(heard_.size())]);
    }
    if (drop > 0 && world_.chance(drop)) {
      // A full pipe drops runs of messages, not single ones.
      deaf_until_ = world_.time() + std::chrono::milliseconds(world_.below(400));
      return;
    }
    arrive(frame);
  }

  // TCP: delayed, but in order.
  void arrive(const proto::Bytes& frame) {
    arrives_ =
        std::max(arrives_, world_.time() + std::chrono::microseconds(100 + world_.below(2000)));
    world_.at(arrives_ - world_.time(), [this, frame, life = life_] {
      if (life != life_) return;
      core_->frame(frame, 0, world_.now(wall_offset));
      note_joined();
    });
  }

  // Goes on from the last saved cursor; what came since then may come again.
  void restart() {
    start();
  }

  peer::Outcome deliver(const peer::Delivery& event) override {
    const Key key{event.epoch, event.seq};
    Seen& seen = seen_[event.stream_id];
    close_open_gap(seen, key);
    if (!seen.this_life.insert(key).second)
      fail(fmt::format("{} {}:{} delivered twice in one life", event.stream.publisher, key.first,
                       key.second));
    if (key <= seen.last)
      fail(fmt::format("{} {}:{} out of order after {}:{}", event.stream.publisher, key.first,
                       key.second, seen.last.first, seen.last.second));
    seen.last = key;
    seen.delivered.insert(key);
    return garbled(key.second) ? peer::Outcome::Undecodable : peer::Outcome::Delivered;
  }

  void gap(const peer::Gap& gap) override {
    Seen& seen = seen_[gap.stream.id()];
    close_open_gap(seen, {gap.epoch, gap.from});
    seen.gaps.push_back({{gap.epoch, gap.from}, gap.to ? Key{gap.epoch, *gap.to} : kOpen});
    const Key end{gap.epoch, gap.to.value_or(gap.from)};
    if (gap.to && *gap.to < gap.from)
      fail(fmt::format("gap {}:{} ends at {}", gap.epoch, gap.from, *gap.to));
    if (Key{gap.epoch, gap.from} <= seen.last)
      fail(fmt::format("gap {}:{} after {}:{} was delivered", gap.epoch, gap.from, seen.last.first,
                       seen.last.second));
    seen.last = std::max(seen.last, end);
  }

  void check_credential(const peer::KnownCredential& known) override {
    const proto::Hash id = known.id;
    const proto::Bytes fingerprint = known.credential.stream.fingerprint;
    world_.at(5ms, [this, id, fingerprint, life = life_] {
      if (life != life_) return;
      (void)core_->judged(id, peer::CredentialVerdict{fingerprint, 0}, world_.now(wall_offset));
      note_joined();
    });
  }

  void head_heard(const proto::Head& head) override { heads_[head.stream] = head; }

  void ask(const peer::Question& question) override {
    proto::Request request{question.id, question.verb, question.args};
    const proto::Bytes bytes = proto::encode_request(request);
    // The stream's own publisher, or anyone if the stream is not known.
    world_.at(std::chrono::microseconds(200 + world_.below(5000)),
              [this, bytes, question, life = life_] {
                if (life != life_) return;
                for (Publisher* publisher : publishers_) {
                  if (!question.stream.is_zero() && publisher->id() != question.stream) continue;
                  if (partitioned || !publisher->alive() || world_.chance(drop)) continue;
                  peer::StreamVerbs verbs(publisher->id(), publisher->journal());
                  const auto answer = verbs.answer(*proto::decode_request(bytes));
                  const auto frames = proto::encode_answer(*answer);
                  auto decoded = proto::decode_answer(frames);
                  if (question.stream.is_zero() && decoded->refused) continue;
                  core_->answered(question.id, std::move(decoded), 1, world_.now(wall_offset));
                  note_joined();
                  return;
                }
                world_.at(2s, [this, question, life] {
                  if (life == life_)
                    core_->answered(question.id, proto::refuse(proto::Reject::Unavailable), 1,
                                    world_.now(wall_offset));
                });
              });
  }

  // Every acknowledged event of every publisher, accounted for once.
  void account(Report& report) {
    for (Publisher* publisher : publishers_) {
      const Seen& seen = seen_[publisher->id()];
      for (const auto& [key, event] : publisher->acknowledged) {
        const std::string& topic = event.topic;
        if (!proto::is_under(topic, core_->prefix()) || before_joining(*publisher, key, event))
          continue;
        const bool lost = std::ranges::any_of(seen.gaps, [&](const auto& gap) {
          if (key >= gap.from && key <= gap.to) return true;
          // Who joined at old events and could ask nobody names them by their numbers alone.
          return joined_.contains(publisher->id()) && key.first <= gap.to.first &&
                 key.second >= gap.from.second && key.second <= gap.to.second;
        });
        const bool delivered = seen.delivered.contains(key);
        std::vector<proto::TopicPattern> patterns;
        for (const std::string& text : patterns_)
          patterns.push_back(*proto::TopicPattern::parse(text));
        const bool filtered = !proto::matches_any(patterns, topic);
        const bool denied = !filtered && proto::is_under(topic, kDeniedUnder);
        (garbled(key.second) ? report.undecodable : report.delivered) += delivered;
        report.filtered += filtered;
        report.denied += denied;
        report.gap_events += lost;
        if (delivered && (filtered || denied))
          fail(fmt::format("{} {}:{} was delivered against filter or policy",
                           publisher->name().publisher, key.first, key.second));
        if (!delivered && !filtered && !denied && !lost)
          fail(fmt::format("{} {}:{} ({}) silently lost to '{}'", publisher->name().publisher,
                           key.first, key.second, topic, core_->prefix()));
      }
      for (const auto& info : core_->streams(world_.now()))
        if (info.id == publisher->id() && publisher->alive() &&
            info.state != peer::StreamState::Current)
          fail(fmt::format("{} is still {} at {} of {}", info.name.publisher,
                           peer::to_string(info.state), info.position, info.wanted));
    }
    report.gaps += core_->counts().gaps;
    report.replays += core_->counts().replays;
  }

 private:
  static constexpr std::size_t kEchoed = 3000;
  // Some events cannot be read, whoever tries.
  static bool garbled(std::uint64_t seq) { return seq % 97 == 0; }

  static constexpr Key kOpen{UINT64_MAX, UINT64_MAX};
  struct Range {
    Key from, to;
  };
  struct Seen {
    std::set<Key> delivered;
    std::set<Key> this_life;
    Key last{};
    std::vector<Range> gaps;
  };

  // A gap without an end reaches to whatever comes next.
  static void close_open_gap(Seen& seen, Key next) {
    if (!seen.gaps.empty() && seen.gaps.back().to == kOpen)
      seen.gaps.back().to = {next.first, next.second - 1};
  }

  void fail(std::string what) {
    if (problem.empty()) problem = std::move(what);
  }

  // The head it has just heard is the one it joined by.
  void note_joined() {
    if (joining_.empty()) return;
    for (const peer::StreamInfo& info : core_->streams(world_.now(wall_offset))) {
      if (info.state == peer::StreamState::Joining || joining_.erase(info.id) == 0) continue;
      const proto::Head& head = heads_.at(info.id);
      const bool at_time = std::holds_alternative<peer::StartTime>(start_);
      joined_[info.id] = {head.epoch, at_time ? info.position : head.oldest - 1};
    }
  }
  // What it left out by asking for no more than its publisher had then, or for what was new.
  bool before_joining(Publisher& publisher, const Key& key, const Publisher::Event& event) const {
    const auto joined = joined_.find(publisher.id());
    if (joined == joined_.end()) return false;
    const bool before = key.first <= joined->second.first && key.second <= joined->second.second;
    const auto* at = std::get_if<peer::StartTime>(&start_);
    if (!at) return before;
    return event.time_ns < at->time_ns ||
           (before && key.second < publisher.journal().tail().oldest_seq);
  }

  void start() {
    ++life_;
    joining_.clear();
    for (const Publisher* publisher : publishers_)
      if (!cursors_.contains(publisher->id())) joining_.insert(publisher->id());
    for (auto& [id, seen] : seen_) {
      seen.this_life.clear();
      seen.last = {};
    }
    std::vector<proto::TopicPattern> patterns;
    for (const std::string& text : patterns_) patterns.push_back(*proto::TopicPattern::parse(text));
    trust::Rule rule;
    for (const char* topics : {"org.example.dev.mirror.**", "org.example.dev.shell.**"})
      rule.topics.push_back(*proto::TopicPattern::parse(topics));
    for (Publisher* publisher : publishers_)
      rule.keys.push_back({proto::Scheme::OpenPgp, publisher->name().fingerprint});
    peer::SubscriberOptions options;
    options.patterns = std::move(patterns);
    options.gap_after = kGapAfter;
    options.start = start_;
    options.replay_bytes = 4096;
    core_ = std::make_unique<peer::SubscriberCore>(std::move(options), trust::Policy({rule}),
                                                   cursors_, *this);
    arrives_ = {};
  }

  void save_cursor() {
    world_.at(1s, [this] {
      cursors_ = core_->cursors();
      save_cursor();
    });
  }
  void tick() {
    world_.at(100ms, [this] {
      core_->tick(world_.now(wall_offset));
      tick();
    });
  }

  World& world_;
  std::vector<std::string> patterns_;
  std::vector<Publisher*> publishers_;
  std::unique_ptr<peer::SubscriberCore> core_;
  store::Cursors cursors_;
  std::map<proto::Hash, Seen> seen_;
  base::MonoTime arrives_{};
  base::MonoTime deaf_until_{};
  std::deque<proto::Bytes> heard_;
  bool away_ = false;
  peer::Start start_ = peer::StartOldest{};
  std::map<proto::Hash, proto::Head> heads_;  // the last of each
  std::set<proto::Hash> joining_;             // without a cursor, and not yet joined
  std::map<proto::Hash, Key> joined_;         // the last event before where it joined
  std::uint64_t life_ = 0;
};

}  // namespace mirrorbus::sim
