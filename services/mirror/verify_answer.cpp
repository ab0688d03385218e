#include "services/mirror/verify_answer.hpp"

#include "proto/tree_update.hpp"
#include "services/mirror/fidelity.hpp"

namespace mirrorbus::mirror {

proto::Value verify_answer(const tree::VerifyResult& found, bool repaired) {
  proto::Array paths;
  const auto add = [&paths](const proto::Bytes& path, const std::string& what) {
    paths.push_back(
        proto::Map{{"path", proto::path_value(path.empty() ? "." : path)}, {"what", what}});
  };
  for (const auto& difference : found.differences) add(difference.path, difference.what);
  for (const tree::KeptReport* report : {&found.kept, &found.older})
    for (const tree::Rot& rot : report->rotten) add(rot.path, rot.what);
  const std::uint64_t rotten = found.kept.count + found.older.count;
  return proto::Map{{"equal", found.equal()},
                    {"differences", found.count + rotten},
                    {"rotten", rotten},
                    {"files", found.files},
                    {"contents", found.kept.contents},
                    {"packs", found.kept.packs},
                    {"nodes", found.kept.nodes},
                    {"bytes", found.bytes + found.kept.bytes + found.older.bytes},
                    {"fidelity", describe(found.fidelity)},
                    {"repaired", repaired},
                    {"paths", std::move(paths)}};
}

}  // namespace mirrorbus::mirror
