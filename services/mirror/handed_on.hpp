// The sealed versions that a tree's index keeps, with the credentials that sealed them: what a
// mirror hands on to those who cannot reach the origin. Worker threads, with the index.
#pragma once

#include "bus/base/pool.hpp"
#include "bus/peer/serve_server.hpp"
#include "services/tree/index.hpp"
#include "services/tree/version_changes.hpp"

#include <optional>

namespace mirrorbus::mirror {

// The credential an event's frame says it is sealed with; nothing if the frame is none.
std::optional<proto::Hash> sealer_of(proto::ByteView frame);

// Keeps a believed credential, as it was received, beside the versions. The last 32 are kept: more
// than the versions that anybody asks for were sealed with.
void keep_credential(tree::Index& index, const proto::Hash& id, proto::ByteView sealed);

// Serve verb `tree`: the sealed update event of a version, 0 = the newest, and the credential that
// sealed it where it is kept. A tree without a version yet, or whose version is about to be
// announced, is busy: whoever asked comes again, or would never know.
struct SealedVersion {
  proto::Bytes frame;       // empty: none
  proto::Bytes credential;  // empty: not kept here
  bool coming = false;
};
SealedVersion find_sealed(const tree::Index& index, std::uint64_t number);
void answer_sealed(base::Outcome<SealedVersion>& found, peer::ServeReply reply);

// Serve verb `changes`: a page of what a version changed.
void answer_changes(base::Outcome<std::optional<tree::ChangePage>>& page, peer::ServeReply reply);
inline constexpr std::size_t kChangesPage = 1000;

}  // namespace mirrorbus::mirror
