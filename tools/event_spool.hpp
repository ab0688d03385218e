// Events that wait on this machine's disk for a relay: files of one or more, their names in the
// order in which they came. Any number of processes may put in; one at a time takes out.
//
// <20 digits>-<events>.event   each event: its size in 4 bytes, big-endian, then a msgpack map of v
// (1),
//                              sender, n, topic, body (proto::Submission)
// *.refused                    what the relay will not have, kept for an operator
// .put, .empty                 flock: whoever puts one in; whoever sends them and takes them out
//
// Errors of the disk are std::system_error.
#pragma once

#include "bus/base/fd.hpp"
#include "proto/serve.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace mirrorbus::tools {

struct SpoolFull : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class EventSpool {
 public:
  // Makes the directory if it is not there. `limit`: what all files may have together, in bytes.
  EventSpool(std::string directory, std::uint64_t limit);

  const std::string& directory() const { return directory_; }
  std::uint64_t count() const;  // of events

  // Durable on return, in this order, behind all that is here. Throws SpoolFull.
  void put(std::span<const proto::Submission> submissions);

  // The right to take out. Empty: another process has it.
  class Emptying {
   public:
    // The first file; nothing if none is left. Then the right is given up, and who puts something
    // in afterwards finds nobody at it.
    std::optional<std::string> first();
    proto::Decoded<std::vector<proto::Submission>> read(const std::string& name) const;
    void remove(const std::string& name);
    void set_aside(const std::string& name);

   private:
    friend class EventSpool;
    Emptying(EventSpool& spool, base::Fd lock) : spool_(spool), lock_(std::move(lock)) {}
    EventSpool& spool_;
    base::Fd lock_;
    std::map<std::string, std::uint64_t> waiting_;  // files that were there when last looked
  };
  std::optional<Emptying> try_emptying();

 private:
  using Files = std::map<std::string, std::uint64_t>;  // sizes by name, in order
  Files files(bool refused_too) const;
  bool write(const std::string& name, proto::ByteView bytes);
  void look();
  base::Fd lock(const char* name, bool wait) const;
  void sync() const;

  const std::string directory_;
  const std::uint64_t limit_;
  base::Fd fd_;
  // As of the directory's change time `seen_`: listed again if others have changed it since.
  std::uint64_t used_ = 0, next_ = 1;
  std::string seen_;
};

}  // namespace mirrorbus::tools
