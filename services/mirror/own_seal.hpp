// Whether others hand back a version that this very publisher announced once: the event under its
// session key's seal, and the credential of that key under our own long-lived key. All that is
// checked is checked as a mirror does; what our state knew of it is not needed, for it may be lost.
#pragma once

#include "bus/base/clock.hpp"
#include "bus/trust/keyring.hpp"
#include "proto/tree_version.hpp"

#include <string>

namespace mirrorbus::mirror {

class OwnSeal {
 public:
  OwnSeal(trust::Identity identity, proto::StreamName name)
      : identity_(std::move(identity)), name_(std::move(name)) {}

  // Starts gpg if there is no other reason to refuse: worker threads only. `topic`: what the tree's
  // updates are published under. UnknownCredential: `credential` is empty, or another one than the
  // frame was sealed with. SchemeMismatch: we sign nothing, so nothing can be shown to be ours.
  // Throws if our own keys cannot be read.
  proto::Decoded<proto::VersionRecord> check(proto::ByteView frame, proto::ByteView credential,
                                             const std::string& topic, base::Now now) const;

 private:
  trust::Identity identity_;
  proto::StreamName name_;
};

// The version that a frame claims to announce, if it is an update under `topic`; nothing is
// checked.
std::optional<proto::VersionRecord> claimed_version(proto::ByteView frame,
                                                    const std::string& topic);

}  // namespace mirrorbus::mirror
