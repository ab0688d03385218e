// A publisher of a simulated network, the machine it runs on, and what is true of its events.
#pragma once

#include "test/sim/world.hpp"

#include "bus/peer/publisher_core.hpp"
#include "bus/store/memory_journal.hpp"
#include "proto/sha256.hpp"

#include <map>
#include <memory>

#include <fmt/core.h>

namespace mirrorbus::sim {

using Key = std::pair<std::uint64_t, std::uint64_t>;  // (epoch, seq)

inline constexpr char kBase[] = "org.example.dev";

// The machine a publisher runs on: what its disk holds outlives the process.
struct Disk {
  store::MemoryJournal journal{1 << 30};
  std::vector<store::JournalRow> rows;  // all that is durable, to rebuild an older copy from
  std::vector<std::pair<proto::Credential, proto::SealedCredential>> credentials;
};

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
  std::vector<std::function<void(const proto::Bytes&)>> listeners;
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
  void send(const proto::Bytes& frame) {
    for (const auto& hear : listeners) hear(frame);
  }

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

}  // namespace mirrorbus::sim
