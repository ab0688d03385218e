#include "services/relay/relay_daemon.hpp"

int main(int argc, char** argv) {
  return mirrorbus::peer::run_daemon<mirrorbus::relay::RelayDaemon>(
      argc, argv,
      {"bus-relayd", "Takes events from senders that cannot publish themselves and publishes them, "
                     "each acknowledged once it is durable."});
}
