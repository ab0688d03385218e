// Serve verb `have`: a mirror tells whom it pulls from what it has of a tree, and asks where to
// pull the next version. See serve.md.
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"
#include "proto/value.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace mirrorbus::proto {

inline constexpr std::size_t kRunSize = 16;
inline constexpr std::size_t kMaxUrlSize = 512;
inline constexpr std::size_t kMaxReferred = 8;
inline constexpr std::uint64_t kMaxAgainMs = 600'000;

struct HaveRequest {
  std::string tree;         // its name, one topic segment
  Bytes run;                // kRunSize bytes, drawn by the asking daemon and kept with its state
  std::uint64_t number = 0; // committed there; 0: none
  std::uint64_t want = 0;   // about to be pulled, or being pulled; 0: nothing
  std::string content;      // its content listener's URL; empty: it hands out nothing

  bool operator==(const HaveRequest&) const = default;
};
Map to_args(const HaveRequest& request);
Decoded<HaveRequest> have_request(const Value& args);

struct HaveAnswer {
  enum class Pull {
    None,    // nothing was wanted
    Here,    // from whoever answers
    Others,  // from `sources`
    Later,   // nowhere yet: ask again
  };
  std::uint64_t number = 0;  // the newest that is committed where this comes from; 0: none
  std::string content;       // its content listener's URL; empty: none is advertised
  Pull pull = Pull::None;
  std::vector<std::string> sources;  // content listeners that have `want`, the best first
  std::uint64_t again_ms = 0;        // say or ask again after this time

  bool operator==(const HaveAnswer&) const = default;
};
Map to_fields(const HaveAnswer& answer);
Decoded<HaveAnswer> have_answer(const Value& fields);

}  // namespace mirrorbus::proto
