// A daemon's control socket: operators' tools ask, one JSON object a line, and get one line back.
//
//   → {"verb":"pause","tree":"kernel"}
//   ← {"ok":…}   or   {"error":"no tree of that name here; trees: …"}
//
// Requests on one connection are answered in order, one at a time; a verb may answer later. Lines
// to us are at most 64 KiB. Who may connect is a matter of the socket's mode and its directory.
#pragma once

#include "bus/base/fd.hpp"
#include "bus/base/loop.hpp"
#include "proto/value.hpp"

#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace mirrorbus::peer {

inline constexpr std::size_t kMaxControlLine = 64 * 1024;
inline constexpr std::size_t kMaxControlAnswer = 64 * 1024 * 1024;
inline constexpr std::size_t kMaxControlConnections = 64;

using ControlAnswer = std::expected<proto::Value, std::string>;

// The duty to answer one request, at once or later, on the loop thread. Answering somebody who has
// gone is fine. If it is dropped unanswered the asker is told that the daemon gave no answer.
class ControlReply {
 public:
  using Send = std::move_only_function<void(std::optional<ControlAnswer>)>;  // empty: dropped
  explicit ControlReply(Send send) : send_(std::move(send)) {}
  ControlReply(ControlReply&& other) noexcept : send_(std::exchange(other.send_, nullptr)) {}
  ~ControlReply();

  void operator()(ControlAnswer answer);
  void fail(std::string why) { (*this)(std::unexpected(std::move(why))); }

 private:
  Send send_;
};

class ControlSocket {
 public:
  // What a verb throws is answered as an error.
  using Verb = std::move_only_function<void(const proto::Value& request, ControlReply reply)>;

  // Replaces a socket left behind at `path`: the caller holds the lock of its directory.
  ControlSocket(base::Loop& loop, std::string path);
  ~ControlSocket();  // removes the socket
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;

  void add(std::string verb, Verb handler);
  const std::string& path() const { return path_; }

 private:
  struct Impl;
  std::string path_;
  std::shared_ptr<Impl> impl_;  // shared with replies outstanding
};

// The asking side, for tools: blocks. Errors are std::runtime_error for people to read.
class ControlClient {
 public:
  // Nobody there: "no daemon answers at PATH: …".
  explicit ControlClient(const std::string& path);

  // `request` is a map with "verb". The answer, or the daemon's reason why not; throws if none came
  // before `timeout`.
  ControlAnswer call(const proto::Value& request, base::Duration timeout);

 private:
  std::string path_;
  base::Fd fd_;
  std::string received_;
};

}  // namespace mirrorbus::peer
