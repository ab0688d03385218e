#include "services/mirror/kept_run.hpp"

#include "bus/base/fd.hpp"
#include "proto/tree_have.hpp"

#include <cstdio>
#include <fstream>
#include <iterator>

#include <sys/random.h>

namespace mirrorbus::mirror {
namespace {

proto::Bytes drawn() {
  proto::Bytes run(proto::kRunSize, '\0');
  if (::getrandom(run.data(), run.size(), 0) != static_cast<ssize_t>(run.size()))
    base::throw_errno("drawing a random number");
  return run;
}

// Not synced: what a power cut takes is drawn anew, and costs one wait.
bool write(const std::string& file, const proto::Bytes& run) {
  const std::string beside = file + ".new";
  std::ofstream out(beside, std::ios::binary | std::ios::trunc);
  out << run;
  out.close();
  return out && std::rename(beside.c_str(), file.c_str()) == 0;
}

}  // namespace

proto::Bytes kept_run(const std::string& file, const base::Log& log) {
  std::ifstream in(file, std::ios::binary);
  proto::Bytes run(proto::kRunSize + 1, '\0');
  in.read(run.data(), static_cast<std::streamsize>(run.size()));
  run.resize(static_cast<std::size_t>(in.gcount()));
  if (run.size() == proto::kRunSize) return run;
  run = drawn();
  if (!write(file, run))
    log.warning("{} could not be written: after a restart it may take some seconds longer until "
                "versions are pulled",
                file);
  return run;
}

}  // namespace mirrorbus::mirror
