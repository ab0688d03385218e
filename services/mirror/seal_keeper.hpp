// A mirror's versions as their origin sealed them, kept beside its index to be handed on to whoever
// asks here what the origin has said: another mirror, or the origin itself once its state is lost.
//
// Loop thread. Writes on the role's worker; reads beside it.
#pragma once

#include "bus/base/pool.hpp"
#include "services/mirror/index_reader.hpp"
#include "services/mirror/tree_role.hpp"
#include "services/tree/index.hpp"

#include <optional>
#include <string>
#include <utility>

namespace mirrorbus::mirror {

class SealKeeper {
 public:
  // `index` is the worker's, there from opened() on. All references outlive this but the worker,
  // which ends first.
  SealKeeper(const TreeContext& context, const TreeSettings& settings, base::Log& log,
             base::WorkerPool& worker, std::function<tree::Index&()> index);

  void opened() { open_ = true; }
  void stop() { stopping_ = true; }

  // The event of a committed version, as it came.
  void keep(std::uint64_t number, proto::ByteView frame);
  // The committed version came by another way than its event: asks those who may have that, for a
  // minute, or until another version is wanted.
  void want(const proto::Hash& stream, const proto::VersionRecord& record);

  // Serve verbs `tree` and `changes`.
  void sealed(std::uint64_t number, peer::ServeReply reply);
  void changes(std::uint64_t number, std::uint64_t skip, peer::ServeReply reply);

  // The credential an event was sealed with, with its id, as it can be handed on.
  using Sealer = std::pair<proto::Hash, proto::Bytes>;
  std::optional<Sealer> sealer_for(proto::ByteView frame) const;

 private:
  void ask(std::uint32_t attempt);
  bool take(const proto::Answer& answer);

  const TreeContext& context_;
  const TreeSettings& settings_;
  base::Log& log_;
  base::WorkerPool& worker_;
  std::function<tree::Index&()> index_;
  bool open_ = false, stopping_ = false;
  proto::Hash kept_;  // of the event last kept
  std::optional<proto::VersionRecord> wanted_;
  proto::Hash wanted_of_;
  base::Timer again_;
  IndexReader reader_;
};

}  // namespace mirrorbus::mirror
