// bus-mirrord: a publisher, a subscriber, a content listener, and any number of trees.
#pragma once

#include "bus/peer/daemon.hpp"
#include "bus/peer/publisher.hpp"
#include "bus/peer/sources.hpp"
#include "bus/peer/subscriber.hpp"
#include "services/mirror/content_server.hpp"
#include "services/mirror/known_elsewhere.hpp"
#include "services/mirror/mirror_role.hpp"
#include "services/mirror/status_files.hpp"
#include "services/mirror/tree_role.hpp"

#include <memory>
#include <vector>

namespace mirrorbus::mirror {

class MirrorDaemon {
 public:
  struct Settings {
    std::vector<TreeSettings> trees;
    TransferSettings transfer;
  };
  static Settings read(const base::Config& config, const peer::Settings& shared);

  MirrorDaemon(peer::Daemon& daemon, Settings settings);
  ~MirrorDaemon();

  base::Task prepare_reload(const peer::Settings& shared, Settings settings);
  void drain(base::Task done);

 private:
  std::string content_url() const;
  std::string advertised_content() const;  // as others see it
  std::unique_ptr<KnownElsewhere> known_elsewhere();
  void subscribe();
  void add_trees(const Settings& settings);
  void add_verbs();
  void add_serve_verbs();
  TreeRole* find(const std::string& name) const;
  void wait_until_idle(base::Task done);
  // Runs `act` on the tree that the request names, or answers why not.
  using TreeVerb = std::function<void(TreeRole&, const proto::Value& request, peer::ControlReply)>;
  void on_tree(const proto::Value& request, peer::ControlReply reply, const TreeVerb& act);

  peer::Daemon& daemon_;
  Settings settings_;
  const proto::Bytes run_;
  TransferRates rates_;
  std::unique_ptr<ContentServer> content_;
  peer::ServeServer serve_;
  peer::Publisher publisher_;
  std::unique_ptr<peer::Subscriber> subscriber_;
  peer::Sources sources_;
  std::unique_ptr<KnownElsewhere> elsewhere_;
  std::vector<std::unique_ptr<TreeRole>> trees_;
  std::vector<MirrorRole*> mirrors_;  // those of trees_
  std::unique_ptr<StatusFiles> status_files_;
  base::Timer idle_;
};

}  // namespace mirrorbus::mirror
