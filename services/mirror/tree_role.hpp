// One tree of a bus-mirrord, in whichever role: what the daemon and operators' tools can ask of it.
// Loop thread only; blocking work is a job of the role's own worker.
#pragma once

#include "bus/base/log.hpp"
#include "bus/base/loop.hpp"
#include "bus/base/metrics.hpp"
#include "bus/peer/control_socket.hpp"
#include "bus/peer/publisher.hpp"
#include "bus/peer/subscriber.hpp"
#include "proto/tree_have.hpp"
#include "proto/tree_update.hpp"
#include "services/mirror/pull_desk.hpp"
#include "services/mirror/source_list.hpp"
#include "services/mirror/transfer_rates.hpp"
#include "services/mirror/tree_settings.hpp"
#include "services/tree/index.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace mirrorbus::mirror {

class KnownElsewhere;

// Where a tree's versions are announced, below `base` = prefix.env.
inline std::string update_topic(const std::string& base, const std::string& tree) {
  return base + ".mirror.tree." + tree + ".update";
}

// What every role is built from. All of it outlives the role.
struct TreeContext {
  base::Loop& loop;
  peer::Publisher& publisher;
  peer::Subscriber* subscriber;  // only where there are mirrors
  base::Registry& registry;
  base::Log log;
  std::string base;       // prefix.env
  std::string state_dir;  // the daemon's
  std::string content;    // the content listener's URL as others see it; empty: none
  TransferRates& rates;
  int dscp = 0;
  std::string authorities;  // of https sources
  bool serving = false;   // there is a content listener
  proto::Bytes run;       // the daemon asks under it: see kept_run.hpp
  KnownElsewhere* elsewhere = nullptr;  // only where there are origins

  std::string update_topic(const std::string& tree) const {
    return mirror::update_topic(base, tree);
  }
  std::string sync_topic(const std::string& tree, const char* event) const {
    return base + ".mirror.sync." + tree + "." + event;
  }
  // What the daemon keeps of a tree: its index, and small files beside it.
  std::string tree_file(const std::string& tree, const char* suffix) const {
    return state_dir + "/tree-" + tree + suffix;
  }
  std::string index_file(const std::string& tree) const { return tree_file(tree, ".sqlite"); }
};

enum class TreeState {
  Starting, Scanning, Current, Fetching, Applying, Verifying, Paused, Refused, Incomplete, Stale,
  Fork, Failed
};
std::string_view to_string(TreeState state) noexcept;

struct TreeStatus {
  std::string name;
  std::string role;
  std::string path;
  std::uint64_t version = 0;       // committed
  std::uint64_t head_version = 0;  // newest known
  proto::Hash tree_hash;
  TreeState state = TreeState::Starting;
  double lag_seconds = 0;  // age of the oldest published version not yet committed
  std::string source;
  std::vector<SourceList::Place> sources;  // a mirror's
  std::string fidelity = "full";
  std::uint64_t bytes_received = 0;
  std::uint64_t bytes_sent = 0;
  double last_sync_seconds = 0;
  std::string last_error;
  std::string hook_error;  // of the hooks' last run
  double progress = 0;  // of the work under way, 0 to 1; 0 = not known
  std::string phase;    // of it; empty: nothing is under way
  std::uint64_t bytes_done = 0, bytes_total = 0, files_done = 0, files_total = 0;  // of the phase
};
proto::Value to_value(const TreeStatus& status);

class TreeRole {
 public:
  explicit TreeRole(const TreeSettings& settings) : settings_(settings) {}
  virtual ~TreeRole() = default;

  const TreeSettings& settings() const { return settings_; }
  virtual TreeStatus status() const = 0;
  virtual bool idle() const = 0;  // nothing under way that must not be cut off
  virtual void stop() = 0;        // begin nothing more; interrupt what can go on later

  // Verbs of the control socket. What a role cannot do it says.
  virtual void publish(peer::ControlReply reply) {
    reply.fail("only an origin publishes; this is a mirror of the tree");
  }
  // The sealed update event of a version (0: the newest), for whoever asks on the serve socket.
  virtual void sealed(std::uint64_t number, peer::ServeReply reply) = 0;
  // Verb `changes`: a page of what a version changed.
  virtual void changes(std::uint64_t number, std::uint64_t skip, peer::ServeReply reply) {
    (void)number, (void)skip;
    reply.refuse(proto::Reject::NotHeld);
  }
  // Verb `have`: what somebody else has of the tree, and wants.
  void have(const proto::HaveRequest& request, const std::string& peer, base::Now now,
            peer::ServeReply reply);
  virtual void versions(peer::ControlReply reply) = 0;
  virtual void verify(bool repair, peer::ControlReply reply) = 0;
  virtual void sync(peer::ControlReply reply) = 0;
  // Pages of what leads from one version to another, and of what a sync would do now; `after` as in
  // diff_page().
  using PageStart = std::optional<proto::Bytes>;
  virtual void diff(std::uint64_t from, std::uint64_t to, PageStart after,
                    peer::ControlReply reply) = 0;
  virtual void dry_run(PageStart after, peer::ControlReply reply) {
    (void)after;
    reply.fail("only a mirror syncs; this is the origin of the tree");
  }
  // An origin: its tree becomes what version `number` was, and a new version; answers with that. A
  // mirror with snapshots: shows that version until resume().
  virtual void rollback(std::uint64_t number, peer::ControlReply reply) {
    (void)number;
    reply.fail("only an origin rolls back, or a mirror with apply = \"snapshot\"");
  }
  // An origin: its versions go on after `number`, which `source` (a serve socket; empty: whoever is
  // configured) knows; answers with the next one's.
  virtual void adopt(std::uint64_t number, const std::string& source, peer::ControlReply reply) {
    (void)number, (void)source;
    reply.fail("only an origin adopts a history; a mirror accepts one");
  }
  // An origin: runs [tree.import] now; answers with the version that came of it.
  virtual void import(peer::ControlReply reply) {
    reply.fail("only an origin imports; a mirror gets its tree from one");
  }
  virtual void accept(peer::ControlReply reply) { reply.fail("there is nothing to accept"); }
  virtual void pause() = 0;
  virtual void resume() = 0;
  // Answers when version `number` or a later one is committed.
  void wait(std::uint64_t number, peer::ControlReply reply);

 protected:
  // Tells those who wait.
  void committed(std::uint64_t number);
  // This daemon's content listener, for who is told to pull here.
  virtual std::string content_url() const = 0;

  const TreeSettings settings_;

 private:
  std::uint64_t committed_ = 0;
  PullDesk desk_;
  std::multimap<std::uint64_t, peer::ControlReply> waiting_;  // by the version waited for
};

// A content listener's URL with the address it was seen at: see tree_role.cpp.
std::string seen_content(const std::string& url, const std::string& peer);
// The versions an index knows, for `bus-mirror versions`.
proto::Array version_list(const tree::Index& index);
// One of them. `retained`: it is held here.
proto::Value version_value(const proto::VersionRecord& record,
                           const std::optional<proto::PackRef>& pack, bool incomplete,
                           bool retained);
// Answers with a worker's value, or with what went wrong.
void answer(peer::ControlReply& reply, base::Outcome<proto::Value> outcome);
// "DOING: what went wrong", from a worker's exception.
std::string what_failed(const std::exception_ptr& error);

}  // namespace mirrorbus::mirror
