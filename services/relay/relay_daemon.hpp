// bus-relayd: a publisher, a serve socket and a relay in one daemon.
#pragma once

#include "bus/peer/daemon.hpp"
#include "bus/peer/publisher.hpp"
#include "services/relay/relay.hpp"

#include <memory>

namespace mirrorbus::relay {

class RelayDaemon {
 public:
  using Settings = RelaySettings;
  static Settings read(const base::Config& config, const peer::Settings& shared);

  RelayDaemon(peer::Daemon& daemon, Settings settings);

  base::Task prepare_reload(const peer::Settings& shared, Settings settings);
  void drain(base::Task done);

 private:
  void wait_until_idle(base::Task done);

  peer::Daemon& daemon_;
  peer::ServeServer serve_;
  peer::Publisher publisher_;
  std::unique_ptr<Relay> relay_;  // once there is a credential to publish under
  base::Timer idle_;
};

}  // namespace mirrorbus::relay
