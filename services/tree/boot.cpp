#include "services/tree/boot.hpp"

#include <fstream>

namespace mirrorbus::tree {

std::string current_boot() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id;
}

}  // namespace mirrorbus::tree
