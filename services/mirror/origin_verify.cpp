// OriginRole: whether what it keeps is what it was.
#include "services/mirror/origin_role.hpp"
#include "services/mirror/verify_answer.hpp"
#include "services/tree/kept_check.hpp"

namespace mirrorbus::mirror {

// Beside the engine, on a thread and with an index connection of its own: it takes as long as
// reading everything takes, and versions go on being closed.
void OriginRole::verify(bool repair, peer::ControlReply reply) {
  if (!open_) return reply.fail("the tree is still being opened");
  if (stopping_) return reply.fail("the daemon is stopping");
  if (std::exchange(verifying_, true)) return reply.fail("the tree is being verified already");
  progress_.report({tree::Phase::Verifying});
  verifier_.submit(
      [this, file = tree_->index_file(), work = tree_->work().path()] {
        const tree::Index index(file, {.read_only = true});
        const tree::WorkControl control{
            [this](const tree::Progress& now) { progress_.report(now); }, &cancel_};
        tree::VerifyResult found;
        found.kept = tree::KeptCheck(index, work, control).origin(settings_.path);
        found.files = found.kept.files;
        return found;
      },
      [this, repair,
       reply = std::move(reply)](base::Outcome<tree::VerifyResult> found) mutable {
        if (found && repair && !found->equal())
          return mend(std::move(*found), std::move(reply));
        verified(std::move(found), false, std::move(reply));
      });
}

// The store is the engine's.
void OriginRole::mend(tree::VerifyResult found, peer::ControlReply reply) {
  auto kept = std::make_shared<tree::VerifyResult>(std::move(found));
  worker_.submit([this, kept] { return tree_->mend(kept->kept); },
                 [this, kept, reply = std::move(reply)](base::Outcome<bool> all) mutable {
                   if (!all) return verified(std::unexpected(all.error()), false, std::move(reply));
                   verified(std::move(*kept), *all, std::move(reply));
                 });
}

void OriginRole::verified(base::Outcome<tree::VerifyResult> found, bool repaired,
                          peer::ControlReply reply) {
  verifying_ = false;
  if (!found) return reply.fail(what_failed(found.error()));
  for (const tree::Rot& rot : found->kept.rotten)
    log_.error("verify: {}: {}", rot.path.empty() ? "." : rot.path, rot.what);
  reply(verify_answer(*found, repaired));
}

}  // namespace mirrorbus::mirror
