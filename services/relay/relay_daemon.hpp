// bus-relayd: a publisher, a serve socket, and the doors that submissions come through.
#pragma once

#include "bus/peer/daemon.hpp"
#include "bus/peer/publisher.hpp"
#include "services/relay/forward_rules.hpp"
#include "services/relay/forwarded.hpp"
#include "services/relay/http_door.hpp"
#include "services/relay/intake.hpp"
#include "services/relay/relay_settings.hpp"
#include "services/relay/zmq_door.hpp"

#include <optional>

namespace mirrorbus::relay {

class RelayDaemon {
 public:
  struct Settings : RelaySettings {
    ForwardRules forward;
  };
  static Settings read(const base::Config& config, const peer::Settings& shared);

  RelayDaemon(peer::Daemon& daemon, Settings settings);

  base::Task prepare_reload(const peer::Settings& shared, Settings settings);
  void drain(base::Task done);

 private:
  void open();
  void wait_until_idle(base::Task done);

  peer::Daemon& daemon_;
  peer::ServeServer serve_;
  peer::Publisher publisher_;
  Settings settings_;
  // Once there is a credential to publish under.
  std::optional<Intake> intake_;
  std::optional<ZmqDoor> zmq_door_;
  std::optional<HttpDoor> http_door_;
  std::unique_ptr<Forwarded> forwarded_;  // if there are rules
  base::Timer idle_;
};

}  // namespace mirrorbus::relay
