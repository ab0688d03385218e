#include "test/sim/world.hpp"

#include "bus/peer/publisher_core.hpp"
#include "bus/peer/stream_verbs.hpp"
#include "bus/peer/subscriber_core.hpp"
#include "bus/store/memory_journal.hpp"
#include "proto/sha256.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <set>

#include <fmt/core.h>

namespace mirrorbus::sim {
namespace {

using namespace std::chrono_literals;
using Key = std::pair<std::uint64_t, std::uint64_t>;  // (epoch, seq)

constexpr base::Duration kGapAfter = 20s;
constexpr char kBase[] = "org.example.dev";
constexpr const char* kTopics[] = {
    "org.example.dev.mirror.tree.kernel.update", "org.example.dev.mirror.tree.debian.update",
    "org.example.dev.mirror.sync.kernel.complete", "org.example.dev.shell.log.line",
    "org.example.dev.shell.cron.done",            "org.example.dev.secret.key.used"};
constexpr const char* kPatterns[] = {"**", "org.example.dev.mirror.**",
                                     "org.example.dev.mirror.tree.kernel.update",
                                     "org.example.dev.*.tree.**", "org.example.dev.shell.log.*"};
constexpr char kDeniedUnder[] = "org.example.dev.secret";

// The machine a publisher runs on: what its disk holds outlives the process.
struct Disk {
  store::MemoryJournal journal{1 << 30};
  std::vector<store::JournalRow> rows;  // all that is durable, to rebuild an older copy from
  std::vector<std::pair<proto::Credential, proto::SealedCredential>> credentials;
};

class Subscriber;

class Publisher {
 public:
  Publisher(World& world, int number) : world_(world) {
    name_ = {proto::Scheme::OpenPgp, proto::Bytes(20, static_cast<char>('a' + number)),
             fmt::format("pub{}@example.org", number)};
    id_ = name_.id();
    disk_ = std::make_unique<Disk>();
    start();
  }

  const proto::Hash& id() const { return id_; }
  const proto::StreamName& name() const { return name_; }
  bool alive() const { return core_ != nullptr; }
  store::Journal& journal() { return disk_->journal; }

  // Acknowledged events, but for those that a restored copy no longer has.
  struct Event {
    std::string topic;
    std::uint64_t time_ns;
  };
  std::map<Key, Event> acknowledged;
  std::vector<Subscriber*> listeners;
  std::uint64_t crashes = 0;
  std::string problem;
  base::Duration wall_offset{};

  void start() {
    ++life_;
    const store::Tail tail = disk_->journal.tail();
    const std::uint64_t epoch = disk_->journal.begin_epoch(tail.epoch + 1);
    peer::PublisherOptions options;
    options.base = kBase;
    core_ = std::make_unique<peer::PublisherCore>(options, id_, tail, epoch);
    top_epoch_ = std::max(top_epoch_, epoch);
    serial_ = 0;
    renew(tail.last_seq == 0 && fresh_disk_);
    fresh_disk_ = false;
    beat();
    announce();
  }

  void renew(bool new_journal) {
    proto::Credential credential;
    credential.stream = name_;
    credential.epoch = core_->epoch();
    credential.serial = serial_++;
    const std::uint64_t now = base::to_ns(world_.now(wall_offset).wall);
    credential.issued_ns = credential.not_before_ns = now;
    credential.not_after_ns = now + 86'400'000'000'000;
    credential.pin = core_->pin();
    credential.new_journal = new_journal;
    credential.scopes = {"org.example.dev.**"};
    trust::SessionKey key(proto::sha256(
        fmt::format("{} {} {}", name_.publisher, credential.epoch, credential.serial)));
    credential.session_key = key.public_key();
    proto::SealedCredential sealed{proto::encode_credential(credential),
                                   "signed by " + name_.publisher};
    disk_->journal.put_credential(credential, sealed);
    disk_->credentials.emplace_back(credential, sealed);
    sealed_ = proto::encode_sealed(sealed);
    const proto::Hash id = proto::credential_id(sealed.document);
    core_->use_credential(credential, id, std::move(key));
    announce_now();
  }

  void publish(const std::string& topic) {
    if (!core_) return;
    const auto ticket =
        core_->publish(topic, proto::Bytes("\x81\xa1n\x01", 4), world_.now(wall_offset));
    if (ticket) pump();
  }

  // Loses whatever is not on the disk. `torn`: how many of the batches under way made it there.
  void crash() {
    if (!core_) return;
    ++crashes;
    std::size_t survived = under_way_.empty() ? 0 : world_.below(under_way_.size() + 1);
    for (const auto& batch : under_way_) {
      if (survived-- == 0) break;
      commit(batch->row);
    }
    under_way_.clear();
    core_.reset();
    ++life_;
  }

  // The disk comes back as an older copy of itself.
  void restore_older() {
    crash();
    if (disk_->rows.empty()) return;
    auto old = std::make_unique<Disk>();
    const std::size_t keep = world_.below(disk_->rows.size());
    for (std::size_t i = 0; i < keep; ++i) {
      old->journal.append({&disk_->rows[i], 1});
      old->rows.push_back(disk_->rows[i]);
    }
    for (const auto& [credential, sealed] : disk_->credentials) {
      if (keep == 0 || credential.epoch > disk_->rows[keep - 1].epoch) continue;
      old->journal.put_credential(credential, sealed);
      old->credentials.emplace_back(credential, sealed);
    }
    // What the copy does not have is gone for whoever had not heard of it.
    const Key last =
        keep == 0 ? Key{} : Key{disk_->rows[keep - 1].epoch, disk_->rows[keep - 1].last_seq};
    acknowledged.erase(acknowledged.upper_bound(last), acknowledged.end());
    // Epochs are at least the time in milliseconds: a copy's next one is still above all there
    // were.
    old->journal.begin_epoch(top_epoch_);
    disk_ = std::move(old);
    fresh_disk_ = keep == 0;
  }

  void cut(double share) {
    const std::size_t drop =
        static_cast<std::size_t>(static_cast<double>(disk_->rows.size()) * share);
    if (drop == 0 || drop >= disk_->rows.size()) return;
    disk_->journal.prune(disk_->rows[drop].time_ns, UINT64_MAX);
  }

  void restart() {
    if (!core_) start();
  }

  proto::Bytes announcement() const {
    return proto::encode_control(proto::ControlKind::Credential, id_, sealed_);
  }
  void send(const proto::Bytes& frame);

 private:
  void beat() {
    world_.at(1s, [this, life = life_] {
      if (life != life_ || !core_) return;
      if (const auto head = core_->head(world_.now(wall_offset), disk_->journal.tail().oldest_seq)) {
        const auto frame = proto::encode_control(proto::ControlKind::Head, id_, *head);
        check(*proto::decode_head(proto::sealed_head(*proto::decode_control(frame))->bytes));
        send(frame);
      }
      beat();
    });
  }
  // What a head says is true of what is durable.
  void check(const proto::Head& head) {
    std::map<std::string, std::uint64_t> lasts;
    for (auto it = acknowledged.rbegin(); it != acknowledged.rend(); ++it) {
      const Key& key = it->first;
      const std::string& topic = it->second.topic;
      if (key.second <= head.since) break;
      bool named = false;
      for (const proto::Head::Pair& pair : head.pairs) {
        if (!proto::is_under(topic, pair.prefix)) continue;
        named = true;
        lasts.try_emplace(pair.prefix, key.second);
      }
      if (!named || key.second > head.last)
        fail(fmt::format("a head for ({}, {}] does not name {} ({})", head.since, head.last,
                         key.second, topic));
    }
    for (const proto::Head::Pair& pair : head.pairs)
      if (lasts[pair.prefix] != pair.last)
        fail(fmt::format("a head says that '{}' ends at {}, and it is {}", pair.prefix, pair.last,
                         lasts[pair.prefix]));
  }
  void fail(std::string what) {
    if (problem.empty()) problem = name_.publisher + ": " + std::move(what);
  }

  void announce() {
    world_.at(5s, [this, life = life_] {
      if (life != life_ || !core_) return;
      announce_now();
      announce();
    });
  }
  void announce_now() { send(announcement()); }

  void commit(const store::JournalRow& row) {
    disk_->journal.append({&row, 1});
    disk_->rows.push_back(row);
    const auto decoded = proto::decode_row(row.bytes);
    for (std::size_t i = 0; i < decoded->items.size(); ++i)
      acknowledged[{row.epoch, row.first_seq + i}] = {std::string(decoded->items[i].topic),
                                                      row.time_ns};
  }

  void pump() {
    while (auto sealed = core_->next_batch(world_.now(wall_offset))) {
      auto batch = std::make_shared<peer::SealedBatch>(std::move(*sealed));
      under_way_.push_back(batch);
      busy_until_ = std::max(busy_until_, world_.time()) +
                    std::chrono::microseconds(100 + world_.below(3000));
      world_.at(busy_until_ - world_.time(), [this, batch, life = life_] {
        if (life != life_ || !core_) return;
        under_way_.erase(under_way_.begin());
        commit(batch->row);
        core_->durable(*batch);
        for (std::size_t i = 0; i < batch->items.size(); ++i) {
          proto::Bytes frame;
          proto::append_event_frame(frame, batch->frame(i));
          send(frame);
        }
        pump();
      });
    }
    if (const auto wake = core_->wake(world_.now(wall_offset)))
      world_.at(*wake > world_.time() ? *wake - world_.time() : 1us, [this, life = life_] {
        if (life == life_ && core_) pump();
      });
  }

  World& world_;
  proto::StreamName name_;
  proto::Hash id_;
  std::unique_ptr<Disk> disk_;
  bool fresh_disk_ = true;
  std::uint64_t top_epoch_ = 0;
  std::unique_ptr<peer::PublisherCore> core_;
  std::uint32_t serial_ = 0;
  proto::Bytes sealed_;
  std::vector<std::shared_ptr<peer::SealedBatch>> under_way_;
  base::MonoTime busy_until_{};
  std::uint64_t life_ = 0;
};

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

void Publisher::send(const proto::Bytes& frame) {
  for (Subscriber* listener : listeners) listener->hear(frame);
}

// What happens again and again until `end`, after random pauses of `mean` on the average.
struct Repeated {
  World& world;
  base::Duration mean;
  base::MonoTime end;
  std::function<void()> action;

  void later() const {
    const auto pause = 1 + world.below(static_cast<std::uint64_t>(2 * mean / 1us));
    world.at(std::chrono::microseconds(pause), *this);
  }
  void operator()() const {
    if (world.time() >= end) return;
    action();
    later();
  }
};

}  // namespace

Report run_storm(std::uint64_t seed) {
  World world(seed);
  std::vector<std::unique_ptr<Publisher>> publishers;
  std::vector<std::unique_ptr<Subscriber>> subscribers;
  std::vector<Publisher*> all;
  for (int i = 0; i < 1 + static_cast<int>(world.below(2)); ++i) {
    publishers.push_back(std::make_unique<Publisher>(world, i));
    all.push_back(publishers.back().get());
  }
  for (std::size_t i = 0; i < 1 + world.below(3); ++i) {
    std::vector<std::string> patterns{kPatterns[world.below(std::size(kPatterns))]};
    if (world.chance(0.2)) patterns.emplace_back(kPatterns[world.below(std::size(kPatterns))]);
    subscribers.push_back(std::make_unique<Subscriber>(world, patterns, all));
    for (Publisher* publisher : all) publisher->listeners.push_back(subscribers.back().get());
  }
  if (seed % 3 == 0) {
    subscribers.push_back(std::make_unique<Subscriber>(
        world, std::vector<std::string>{kPatterns[seed / 3 % std::size(kPatterns)]}, all));
    for (Publisher* publisher : all) publisher->listeners.push_back(subscribers.back().get());
    const auto when = std::chrono::milliseconds(seed * 7919 % 50'000);
    subscribers.back()->join_later(
        when, seed % 2 == 0 ? std::optional<base::Duration>(when / 2) : std::nullopt);
  }
  // Whatever a run is about, it is about a few faults: each is on or off by the seed.
  const bool drops = world.chance(0.6), partitions = world.chance(0.5), crashes = world.chance(0.5),
             restarts = world.chance(0.4), cuts = world.chance(0.25), jumps = world.chance(0.2),
             restores = world.chance(0.12), renewals = world.chance(0.3);
  if (seed % 5 == 0)
    for (auto& subscriber : subscribers) subscriber->echoes = true;
  if (drops)
    for (auto& subscriber : subscribers)
      subscriber->drop = 0.001 + 0.05 * static_cast<double>(world.below(100)) / 100;

  const base::MonoTime storm_end = world.time() + 60s;
  const auto during = [&](base::Duration mean, std::function<void()> action) {
    Repeated{world, mean, storm_end, std::move(action)}.later();
  };
  const auto some_publisher = [&]() -> Publisher& {
    return *publishers[world.below(publishers.size())];
  };
  const auto some_subscriber = [&]() -> Subscriber& {
    return *subscribers[world.below(subscribers.size())];
  };

  during(150ms, [&] {
    Publisher& publisher = some_publisher();
    const std::size_t burst = world.chance(0.05) ? world.below(400) : 1 + world.below(4);
    for (std::size_t i = 0; i < burst; ++i)
      publisher.publish(kTopics[world.below(std::size(kTopics))]);
  });
  if (partitions)
    during(8s, [&] {
      Subscriber* subscriber = &some_subscriber();
      subscriber->partitioned = true;
      // Now and then for longer than a gap is waited for.
      const base::Duration length =
          world.chance(0.1) ? kGapAfter + 5s : std::chrono::milliseconds(10 + world.below(6000));
      world.at(length, [subscriber] { subscriber->partitioned = false; });
    });
  if (crashes)
    during(9s, [&] {
      Publisher* publisher = &some_publisher();
      if (restores && world.chance(0.3))
        publisher->restore_older();
      else
        publisher->crash();
      world.at(std::chrono::milliseconds(1 + world.below(8000)),
               [publisher] { publisher->restart(); });
    });
  if (restarts) during(10s, [&] { some_subscriber().restart(); });
  if (cuts) during(12s, [&] { some_publisher().cut(0.3); });
  if (renewals)
    during(15s, [&] {
      Publisher& publisher = some_publisher();
      if (publisher.alive()) publisher.renew(false);
    });
  if (jumps)
    during(20s, [&] {
      const auto offset = std::chrono::seconds(world.below(1200)) - std::chrono::seconds(600);
      if (world.chance(0.5))
        some_publisher().wall_offset = offset;
      else
        some_subscriber().wall_offset = offset;
    });

  world.run_until(storm_end);
  for (auto& publisher : publishers) {
    publisher->wall_offset = {};
    publisher->restart();
    publisher->renew(false);  // one that was made under a wrong clock may not be valid yet
  }
  for (auto& subscriber : subscribers) {
    subscriber->wall_offset = {};
    subscriber->drop = 0;
    subscriber->partitioned = false;
  }
  // Gaps are given up one after another, each only after its time.
  world.run_until(storm_end + 8 * kGapAfter);

  Report report;
  for (auto& publisher : publishers) {
    report.acknowledged += publisher->acknowledged.size();
    report.crashes += publisher->crashes;
    if (report.problem.empty()) report.problem = publisher->problem;
  }
  for (auto& subscriber : subscribers) {
    subscriber->account(report);
    if (report.problem.empty()) report.problem = subscriber->problem;
  }
  return report;
}

}  // namespace mirrorbus::sim
