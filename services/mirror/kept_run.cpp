#include "services/mirror/kept_run.hpp"

#include "bus/base/fd.hpp"
#include "bus/base/replace_file.hpp"
#include "proto/tree_have.hpp"

#include <fstream>
#include <system_error>

#include <sys/random.h>

namespace mirrorbus::mirror {
namespace {

proto::Bytes drawn() {
  proto::Bytes run(proto::kRunSize, '\0');
  if (::getrandom(run.data(), run.size(), 0) != static_cast<ssize_t>(run.size()))
    base::throw_errno("drawing a random number");
  return run;
}

}  // namespace

proto::Bytes kept_run(const std::string& file, const base::Log& log) {
  std::ifstream in(file, std::ios::binary);
  proto::Bytes run(proto::kRunSize + 1, '\0');
  in.read(run.data(), static_cast<std::streamsize>(run.size()));
  run.resize(static_cast<std::size_t>(in.gcount()));
  if (run.size() == proto::kRunSize) return run;
  run = drawn();
  try {
    base::replace_file(file, run);  // what a power cut takes is drawn anew, and costs one wait
  } catch (const std::system_error&) {
    log.warning("{} could not be written: after a restart it may take some seconds longer until "
                "versions are pulled",
                file);
  }
  return run;
}

}  // namespace mirrorbus::mirror
