// mirrorbus as a library: listen to signed events, or publish them. This header is all there is to
// include; it needs C++20 and nothing else. Link with `pkg-config --libs mirrorbus`.
//
// Both take a configuration file like the tools' (mirrorbus.toml(5)): where publishers are found,
// whom to believe, and for publishing what to sign with. What goes wrong with it is thrown as
// std::exception with the file, line and key.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mirrorbus {

// Verified, in order. Valid during the call.
struct Event {
  std::string_view topic;
  std::string_view publisher;  // "relayd@relay1.example.org"
  std::string_view signer;     // "openpgp:FINGERPRINT", "x509:SPKI-SHA256", or "" if nobody signs
  std::uint64_t epoch = 0;     // one run of the publisher
  std::uint64_t seq = 0;       // without holes over the publisher's life
  std::chrono::sys_time<std::chrono::nanoseconds> time;
  std::string_view body;  // msgpack

  // The same for the same event wherever and whenever it is heard: for telling repetitions.
  std::string id() const;
  std::string body_json() const;
  std::string_view stream;  // for id()
};

// Events of a publisher that nobody has any more.
struct Gap {
  std::string_view publisher;
  std::uint64_t epoch = 0;
  std::uint64_t from = 0;
  std::optional<std::uint64_t> to;  // empty: nobody knows
  std::string_view reason;          // retention, unavailable, rewound, new_journal
};

class Listener {
 public:
  struct Options {
    std::string config_file;
    std::vector<std::string> topics{"**"};  // patterns: * is one word, ** any number
    // Where to keep how far it got: the next one of this file goes on there. What came in the
    // second before a crash comes again. Empty: starts now, or from the oldest event that there is.
    std::string cursor_file;
    bool from_oldest = false;
  };
  Listener(Options options, std::function<void(const Event&)> on_event,
           std::function<void(const Gap&)> on_gap = {});
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Listens until stop(), and calls the functions on this thread. What they throw comes out of it.
  void run();
  void stop();  // from any thread, or from the functions

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A publisher with a journal of its own, on a thread of its own. For a program that sends a line
// now and then a relay and bus-logger(1) are the better way.
class Publisher {
 public:
  // Returns when events can be published: the key has signed.
  explicit Publisher(const std::string& config_file);
  ~Publisher();
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;

  // Returns when the event is durable, with its seq; then it is sent, and replayed to whoever
  // missed it. `topic` goes below the configuration's prefix and environment: "build.package.done".
  // `body_json` is JSON. Throws std::invalid_argument for what can never be published,
  // std::runtime_error for what could not be now. Any thread.
  std::uint64_t publish(std::string_view topic, std::string_view body_json);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mirrorbus
