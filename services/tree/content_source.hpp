// Where a mirror gets bytes from: an origin, another mirror, a plain HTTP server. The daemon makes
// one over HTTP; tests make one over a directory.
//
// A source is not trusted: whoever asks hashes what comes and throws away what does not fit, so an
// implementation only moves bytes. It blocks, and belongs to the thread that works. What it cannot
// do at all (no route, refused, time is up, cancelled) is a SourceError; what it does not have any
// more is an answer, `gone`.
#pragma once

#include "proto/bytes.hpp"
#include "proto/reject.hpp"

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace mirrorbus::tree {

// The source failed as a whole. Nothing is known about what was asked for; trying again, here or
// elsewhere, may work. What has arrived is kept.
class SourceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A thing by its SHA-256. The size is signed, so more bytes than that are a lie.
struct Wanted {
  proto::Hash hash;
  std::uint64_t size_bytes = 0;
};

// Takes an answer in pieces: begin, write…, end for each thing that came, in any order; gone for
// each that the source does not hold. What is neither was not answered. A begin without an end is
// cut off.
class ContentSink {
 public:
  virtual ~ContentSink() = default;
  virtual void begin(const proto::Hash& hash) = 0;
  virtual void write(proto::ByteView bytes) = 0;
  virtual void end() = 0;
  virtual void gone(const proto::Hash& hash, const std::string& reason) = 0;
};

class ContentSource {
 public:
  virtual ~ContentSource() = default;

  // For messages and `source` in the status.
  virtual std::string name() const = 0;

  // How many places it asks: what was bad or did not come may be right from the next, so it is worth
  // asking that often again.
  virtual std::size_t places() const { return 1; }

  // A delta pack from byte `offset` on (what is before it is here already). One thing.
  virtual void fetch_pack(const Wanted& pack, std::uint64_t offset, ContentSink& sink) = 0;

  // Encoded tree roots, nodes, links and owners tables; sizes are not known beforehand, so an
  // implementation cuts off each at `limit_bytes`.
  virtual void fetch_nodes(std::span<const proto::Hash> ids, std::uint64_t limit_bytes,
                           ContentSink& sink) = 0;

  // File contents, at most kBatch at a time.
  static constexpr std::size_t kBatch = 4096;
  virtual void fetch_objects(std::span<const Wanted> objects, ContentSink& sink) = 0;

  // One large file from byte `offset` on.
  virtual void fetch_range(const Wanted& object, std::uint64_t offset, ContentSink& sink) = 0;

  // What came did not have its hash or size: this source, for this thing, is no good.
  // `what` begins with a verb.
  virtual void bad(const proto::Hash& hash, proto::Reject why, const std::string& what) = 0;

  // Since it was made, headers of the transport included where it knows them.
  virtual std::uint64_t bytes_received() const = 0;
};

}  // namespace mirrorbus::tree
