// A tree kept as a mirror: hears of versions, pulls what they need, applies them, says so.
#pragma once

#include "bus/base/pool.hpp"
#include "services/mirror/hooks.hpp"
#include "services/mirror/many_sources.hpp"
#include "services/mirror/seal_keeper.hpp"
#include "services/mirror/shown_progress.hpp"
#include "services/mirror/source_talk.hpp"
#include "services/mirror/tree_holder.hpp"
#include "services/mirror/tree_diffs.hpp"
#include "services/mirror/tree_role.hpp"
#include "services/tree/dry_run.hpp"
#include "services/tree/index.hpp"
#include "services/tree/mirror_tree.hpp"
#include "services/tree/work_folder.hpp"

#include <atomic>
#include <future>
#include <map>
#include <memory>

namespace mirrorbus::mirror {

class MirrorRole final : public TreeRole {
 public:
  MirrorRole(const TreeContext& context, const TreeSettings& settings);
  ~MirrorRole() override;

  // An update event of this tree's topic, verified. `frame`: as it came, if it is known.
  void on_update(const proto::Hash& stream, const proto::StreamName& name, proto::ByteView body,
                 proto::ByteView frame);
  // For the content server, if this daemon has one; outlives the role.
  std::shared_ptr<ContentHolder> holder() const { return holder_; }
  // A publisher of the bus is there, or advertises something new.
  void on_credential(const proto::Hash& stream, const proto::Credential& credential);

  TreeStatus status() const override;
  bool idle() const override { return !busy_; }
  void stop() override;
  void sealed(std::uint64_t number, peer::ServeReply reply) override {
    seals_.sealed(number, std::move(reply));
  }
  void changes(std::uint64_t number, std::uint64_t skip, peer::ServeReply reply) override {
    seals_.changes(number, skip, std::move(reply));
  }
  void versions(peer::ControlReply reply) override;
  void verify(bool repair, peer::ControlReply reply) override;
  void sync(peer::ControlReply reply) override;
  void diff(std::uint64_t from, std::uint64_t to, PageStart after,
            peer::ControlReply reply) override;
  void dry_run(PageStart after, peer::ControlReply reply) override;
  void rollback(std::uint64_t number, peer::ControlReply reply) override;
  void accept(peer::ControlReply reply) override;
  void pause() override;
  void resume() override;

 private:
  // Space and mounts come back by themselves, and trying costs nobody else anything.
  static constexpr base::Duration kDiskAgain = std::chrono::seconds(15);
  std::string content_url() const override { return context_.content; }
  // What lives on the worker.
  struct Engine {
    tree::WorkFolder work;
    tree::Index index;
    tree::MirrorTree tree;
    TreeDiffs diffs;
    std::unique_ptr<tree::DryRun> dry_run;  // not while a sync runs
    Engine(const TreeSettings& settings, const std::string& index_file, bool serving);
  };
  // The version the link shows since a rollback, with snapshots.
  struct Pinned {
    tree::Snapshot version;
    std::uint64_t next_ns = 0;  // time of the version after it, if that is held
  };
  struct Opened {
    std::unique_ptr<Engine> engine;
    std::optional<tree::StoredVersion> committed;
    std::optional<proto::Bytes> stream;  // pinned
    std::optional<Pinned> pinned;
    std::string warning;
  };

  static constexpr char kStreamKey[] = "origin_stream";  // the index's setting

  void open();
  void opened(Opened found);
  // An update or a version that is not taken: counted, said, and shown in the status.
  void refused(proto::Reject why, const std::string& text);
  // Another history than the one committed here: held until an operator accepts it.
  struct Offered {
    proto::Hash stream;
    tree::TargetVersion version;
    proto::Reject why;
  };
  void offer(Offered other, const std::string& text);
  std::optional<std::string> contradiction(const proto::VersionRecord& record) const;
  void take_offered();
  void count_complaints();
  std::string foreign(const proto::Hash& stream, const proto::StreamName& name,
                      const proto::TreeUpdate& update) const;
  void ask_version(const proto::Hash& stream, std::uint64_t number, std::uint32_t attempt);
  void version_answered(const proto::Hash& stream, std::uint64_t number, std::uint32_t attempt,
                        const proto::Decoded<proto::Answer>& answer);
  void ask_newest(const proto::Hash& stream);
  void consider();
  bool chain_complete();
  // From one who cannot be the origin, with the credential that it was sealed with.
  void ask_handed_on(const std::string& endpoint, std::uint64_t number);
  void take_handed_on(const std::string& endpoint, const proto::Answer& answer);
  void offer_sealer(const std::string& endpoint, const proto::Answer& answer);
  SourceTalk::Standing standing() const;
  std::optional<std::string> origin_content() const;
  std::vector<SourceList::Named> all_sources() const;
  std::vector<SourceList::Named> named_by(const SourceTalk::Heard& heard) const;
  std::vector<SourceList::Named> sent_to(const SourceTalk::Heard& heard) const;
  std::vector<SourceList::Named> not_ourselves(std::vector<SourceList::Named> places) const;
  std::unique_ptr<ManySources> new_source(std::uint64_t version);
  using Places = std::shared_ptr<std::promise<std::vector<std::string>>>;
  std::vector<std::string> place(std::uint64_t version, bool again, const std::string& trouble);
  void pass_over(std::uint64_t version, const std::string& trouble);
  void ask_place(std::uint64_t version, bool again, const Places& places);
  SourceReach reach_of(const SourceTalk::Heard& heard) const;
  void start_sync();
  void finished(base::Outcome<tree::SyncResult> outcome, base::MonoTime started);
  void apply_result(const tree::SyncResult& result, double seconds);
  // `max_backoff`: tried again after that at the latest.
  void failed(std::string why, double seconds, base::Duration max_backoff);
  void watch_place();
  void mend();
  TreeState at_rest() const { return lacking_ ? TreeState::Incomplete : TreeState::Current; }
  void taken(const tree::SyncResult& result, double seconds);
  void publish_failure(const proto::VersionRecord& target, double seconds);
  std::uint64_t head() const;  // the newest version known
  double lag_seconds() const;
  void measure();
  // Snapshots (mirror_snapshots.cpp)
  static std::optional<Pinned> find_pinned(const Engine& engine);  // on the worker
  void pinned(Pinned now);
  void unpin();
  void sweep_later(bool soon);
  void sweep();
  void add_held(proto::Array& versions) const;  // on the worker
  void say_verified(const proto::Value& found);
  tree::WorkControl control();

  TreeContext context_;
  base::Log log_;
  std::unique_ptr<Engine> engine_;
  std::optional<proto::Hash> origin_;  // the pinned stream
  std::uint64_t committed_number_ = 0;
  std::optional<proto::VersionRecord> committed_record_;
  std::map<std::uint64_t, tree::TargetVersion> known_;  // newer than committed
  std::map<proto::Hash, proto::StreamName> publishers_;
  std::optional<Offered> offered_;
  bool lacking_ = false;  // the committed version is not whole
  std::optional<Pinned> pinned_;
  bool forced_ = false;              // the only one known was accepted, whatever its number
  std::uint64_t asked_through_ = 0;  // missing versions up to here have been asked for
  base::MonoTime chain_due_{};       // until then its answers are waited for

  TreeState state_ = TreeState::Starting;
  bool paused_ = false, stopping_ = false, busy_ = false;
  std::string last_error_, fidelity_ = "full", source_name_;
  std::uint64_t bytes_received_ = 0;
  double last_sync_seconds_ = 0;
  std::optional<tree::Refusal> refusal_, accepted_;
  base::Duration backoff_{};
  base::MonoTime not_before_{};  // of the next try
  SourceList sources_;
  std::uint64_t set_aside_told_ = 0;
  TransferLine line_;
  std::unique_ptr<ManySources> source_;
  std::shared_ptr<TreeHolder> holder_;
  std::unique_ptr<SourceTalk> talk_;
  const std::shared_ptr<char> alive_ = std::make_shared<char>();  // for what is posted
  std::vector<peer::ControlReply> syncing_;  // who asked for the sync under way

  std::atomic<bool> cancel_{false};
  ShownProgress progress_;

  struct Metrics {
    Metrics(base::Registry& registry, const std::string& tree);
    base::Gauge& version;
    base::Gauge& head_version;
    base::Gauge& lag;
    base::Counter& syncs;
    base::Counter& failures;
    base::Counter& refused;
    base::Counter& received;
    base::Counter& bad_items;
    base::Counter& set_aside;
  } metrics_;
  base::Timer retry_, every_second_, place_, place_check_, sweep_;
  // To ask again, by stream and version.
  std::map<std::pair<proto::Hash, std::uint64_t>, std::unique_ptr<base::Timer>> asking_;
  Hooks hooks_;
  SealKeeper seals_;
  base::WorkerPool worker_;
};

}  // namespace mirrorbus::mirror
