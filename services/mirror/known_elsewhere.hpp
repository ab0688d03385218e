// What others still know of a tree that this daemon publishes: for an origin whose state was lost,
// or is an older copy. Asks serve sockets for the sealed update of a version (verb `tree`).
//
// What comes is read, not verified: the credential that sealed it is lost with the state, and
// nobody else hands it out. So nothing is done by itself on the strength of it but to hold versions
// back; an operator says what is right. Loop thread only.
#pragma once

#include "bus/peer/asker.hpp"
#include "proto/tree_version.hpp"

#include <optional>
#include <string>
#include <vector>

namespace mirrorbus::mirror {

struct KnownElsewhere {
  std::string endpoint;  // who says so
  proto::VersionRecord record;
};

// `endpoints` are asked at once, and `done` is called when all have answered or their time is up:
// the highest number, or nothing. `number` 0: the newest. `asker` outlives the answers.
void ask_elsewhere(peer::Asker& asker, const std::vector<std::string>& endpoints,
                   const std::string& tree, const std::string& topic, std::uint64_t number,
                   std::move_only_function<void(std::optional<KnownElsewhere>)> done);

// The version an event's frame announces, if it is an update under `topic`.
std::optional<proto::VersionRecord> announced_version(proto::ByteView frame,
                                                      const std::string& topic);

}  // namespace mirrorbus::mirror
