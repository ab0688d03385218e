// A tree kept as an origin: notices changes, closes versions, publishes them, and hands out what
// mirrors need.
#pragma once

#include "bus/base/pool.hpp"
#include "services/mirror/hooks.hpp"
#include "services/mirror/importer.hpp"
#include "services/mirror/index_reader.hpp"
#include "services/mirror/known_elsewhere.hpp"
#include "services/mirror/shown_progress.hpp"
#include "services/mirror/tree_diffs.hpp"
#include "services/mirror/tree_holder.hpp"
#include "services/mirror/tree_role.hpp"
#include "services/tree/mirror_tree.hpp"
#include "services/tree/origin_tree.hpp"
#include "services/tree/settle.hpp"
#include "services/tree/watch.hpp"

#include <atomic>
#include <deque>
#include <memory>
#include <vector>

namespace mirrorbus::mirror {

class OriginRole final : public TreeRole {
 public:
  // `sent`: the content listener's count of bytes handed out.
  OriginRole(const TreeContext& context, const TreeSettings& settings,
             std::function<std::uint64_t()> sent);
  ~OriginRole() override;

  // For the content server; outlives the role. Empty answers until the tree is open.
  std::shared_ptr<ContentHolder> holder() const;

  TreeStatus status() const override;
  bool idle() const override { return !busy_; }
  void stop() override;
  void publish(peer::ControlReply reply) override;
  void sealed(std::uint64_t number, peer::ServeReply reply) override;
  void changes(std::uint64_t number, std::uint64_t skip, peer::ServeReply reply) override;
  void versions(peer::ControlReply reply) override;
  void verify(bool repair, peer::ControlReply reply) override;
  void sync(peer::ControlReply reply) override { publish(std::move(reply)); }
  void diff(std::uint64_t from, std::uint64_t to, PageStart after,
            peer::ControlReply reply) override;
  void rollback(std::uint64_t number, peer::ControlReply reply) override;
  void accept(peer::ControlReply reply) override;
  void adopt(std::uint64_t number, const std::string& source, peer::ControlReply reply) override;
  void import(peer::ControlReply reply) override;
  void pause() override;
  void resume() override;

 private:
  std::string content_url() const override { return context_.content; }
  // What a job on the worker brings back.
  struct Opened {
    tree::RootPlace root;
    tree::Watching watching;
    tree::ScanReport report;
    std::optional<tree::StoredVersion> newest;
    std::vector<tree::StoredVersion> unannounced;
    std::string rollback_problem;  // of one that had been begun
  };
  struct Closed {
    tree::ScanReport report;
    tree::OriginTree::Closing closing;
  };
  struct RolledBack {
    tree::ScanReport report;
    // What was there, if it was in no version, and the old one.
    std::vector<tree::StoredVersion> closed;
    std::string problem;
    bool half = false;  // the tree is neither
  };
  struct Rolling {
    std::uint64_t number;
    peer::ControlReply reply;
  };
  struct Waiting {
    std::uint64_t asked;  // the looks begun by then: a later one answers
    peer::ControlReply reply;
  };

  static constexpr base::Duration kReopen = std::chrono::seconds(20);
  // First the mirrors get what was published.
  static constexpr base::Duration kTidyAfter = std::chrono::seconds(5);
  // So long an origin without a version waits for one answer of those it can ask.
  static constexpr base::Duration kSomebody = std::chrono::seconds(30);
  static constexpr base::Duration kAskElsewhereAgain = std::chrono::seconds(1);
  // A root that is mounted over, unmounted or put in another's place tells nobody.
  static constexpr base::Duration kRootCheck = std::chrono::seconds(5);

  void open();
  void first_look();
  void not_opened(const std::exception_ptr& error);
  void opened(Opened found);
  tree::Watching start_watching() const;  // on the worker
  void watch(tree::Watching found);
  void heard();
  void hear();
  void check_root();
  void changed();
  void consider();
  void look(bool everything, bool careful);
  void looked(const Closed& found);
  void take_report(const tree::ScanReport& report);
  void announce(const tree::StoredVersion& version);
  void announce_next();
  void announced(const proto::VersionRecord& record);
  void answer();
  void fail_waiting(const std::string& why);
  void failed(const std::string& doing, const std::exception_ptr& error);
  void roll_back();
  void rolled_back(RolledBack found, peer::ControlReply reply);
  RolledBack do_roll_back(std::uint64_t number, base::WallTime now);  // on the worker
  std::string finish_rollback(const tree::WorkControl& control);      // the same
  void stopped_half(const std::string& why);
  void look_elsewhere();
  void after_looking_elsewhere();
  // What others answered, and how much is here.
  struct Found {
    std::size_t asked = 0;
    std::size_t silent = 0;  // of them
    bool nobody = false;     // not one of them has answered who might hold the tree
    Weighed weighed;
    proto::TreeCounts here;
    std::string problem;  // it could not be weighed
  };
  void ask_elsewhere(std::uint64_t number, const std::string& source,
                     std::move_only_function<void(Found)> done);
  void judge_elsewhere(const Found& found);
  // Is it too early to call a tree new of which there is nothing here?
  bool waits_for_answers(const Found& found);
  // Nothing is published until an operator has said how to go on.
  void hold_back(std::uint64_t number, const std::string& why, const std::string& more = "");
  void go_on_from(const proto::VersionRecord& record,
                  std::move_only_function<void(const std::string& problem)> done);
  void imported();
  // Verify (origin_verify.cpp)
  void mend(tree::VerifyResult found, peer::ControlReply reply);
  void verified(base::Outcome<tree::VerifyResult> found, bool repaired, peer::ControlReply reply);
  void reconcile();
  void tidy();
  void sync_tree();

  TreeContext context_;
  base::Log log_;
  std::function<std::uint64_t()> sent_;
  std::shared_ptr<TreeHolder> holder_;
  std::unique_ptr<tree::OriginTree> tree_;  // the worker's
  std::unique_ptr<TreeDiffs> diffs_;        // the reader's
  std::unique_ptr<tree::Watch> watch_;
  std::unique_ptr<base::FdWatch> watch_ready_;
  tree::RootPlace root_;  // as it was when it was last looked for
  tree::Settle settle_;
  tree::Dirty dirty_;

  bool has_index_ = false;  // from here on versions can be told of, also while it is looked at
  bool open_ = false, busy_ = false, paused_ = false, stopping_ = false;
  bool reconcile_due_ = false;
  bool look_again_ = false;  // the last look failed
  bool half_rolled_back_ = false;
  bool looked_elsewhere_ = false;
  bool verifying_ = false;
  ShownProgress progress_;  // of that
  std::optional<base::MonoTime> nobody_since_;  // has answered what they know
  bool behind_ = false;  // others know later versions
  // The newest in the index at the start; none: there is no version.
  std::optional<proto::VersionRecord> newest_here_;
  std::uint64_t closed_number_ = 0;  // its number
  std::deque<Rolling> rolling_;
  std::uint64_t looks_ = 0;   // begun
  std::uint64_t looked_ = 0;  // the last that has ended
  TreeState state_ = TreeState::Starting;
  std::uint64_t closed_ = 0;   // closed, to be announced
  std::uint64_t version_ = 0;  // closed and announced
  proto::Hash tree_hash_;
  std::string last_error_;
  double last_seconds_ = 0;
  base::MonoTime look_began_{};
  std::vector<Waiting> waiting_;

  std::atomic<bool> cancel_{false};
  struct Metrics {
    Metrics(base::Registry& registry, const std::string& tree);
    base::Gauge& version;
    base::Counter& versions;
    base::Counter& hashed_bytes;
    base::Gauge& problems;
  } metrics_;
  base::Timer quiet_, reconcile_, retry_, tidy_, root_check_, hear_, announce_again_;
  std::deque<tree::StoredVersion> to_announce_;
  std::vector<peer::ControlReply> importing_;  // who asked for it
  std::optional<proto::VersionRecord> hooked_;  // the version hooks have been told of
  Hooks hooks_;
  Importer importer_;
  IndexReader reader_;
  base::WorkerPool worker_;
  base::WorkerPool syncer_;  // waits for disks
  base::WorkerPool verifier_;
};

}  // namespace mirrorbus::mirror
