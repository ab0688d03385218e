#include "services/mirror/mirror_daemon.hpp"

int main(int argc, char** argv) {
  return mirrorbus::peer::run_daemon<mirrorbus::mirror::MirrorDaemon>(
      argc, argv,
      {"bus-mirrord", "Publishes directory trees as origins and keeps mirrors of them."});
}
