// The verb `submit` on a relay's ZeroMQ sockets: proto/serve.md. Loop thread only.
#pragma once

#include "bus/peer/serve_server.hpp"
#include "services/relay/intake.hpp"

#include <string>
#include <vector>

namespace mirrorbus::relay {

class ZmqDoor {
 public:
  // Binds at once. `intake` outlives it.
  ZmqDoor(base::Loop& loop, net::ZmqContext& context, const std::vector<std::string>& endpoints,
          Intake& intake, base::Registry& registry, base::Log log);

 private:
  void submit(const proto::Request& request, const std::string& peer, peer::ServeReply reply);

  Intake& intake_;
  peer::ServeServer server_;
};

}  // namespace mirrorbus::relay
