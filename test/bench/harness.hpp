// What every contender is measured with: the same bodies, the same pacing, the same table.
#pragma once

#include "proto/bytes.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace mirrorbus::bench {

using Clock = std::chrono::steady_clock;

struct Options {
  std::uint64_t events = 1'000'000;
  std::uint64_t window = 50'000;
  std::uint64_t rate = 10'000;
  double seconds = 5;  // of a paced run
  std::string state = "/var/tmp";
  std::string only;
  std::uint64_t size = 0;
  std::uint64_t subscribers = 1;  // of the bus, and of bare libzmq; all on one thread
  bool no_peers = false;
};

struct Result {
  double per_second = 0;
  double p50_us = 0, p99_us = 0, p999_us = 0;
  double cpu_s = 0;  // of us, and of the server if there is one
  double rss_mb = 0;  // at the peak, the same
  std::uint64_t replayed = 0;
};

// A body of about `size` bytes that begins with the time it was made: a msgpack map {t, d}.
proto::Bytes body_of(std::size_t size);

// What has arrived; take() by one thread, `received` read by others.
struct Tally {
  std::atomic<std::uint64_t> received{0};
  std::vector<std::uint32_t> latencies_us;
  bool keep = false;

  // `copies`: how many subscribers are to have each.
  explicit Tally(std::uint64_t copies = 1) : copies_(copies) {}
  void take(proto::ByteView body);
  // Until so many have arrived. Throws if none does for half a minute: a contender that loses what
  // it took would be waited for without end.
  void wait_for(std::uint64_t events) const;
  void summarise(Result& result);

 private:
  const std::uint64_t copies_;
  std::uint64_t taken_ = 0;
};

// How fast to offer events: as the window allows, or so many a second.
class Pace {
 public:
  Pace(const Options& options, bool paced, const Tally& tally);
  bool done() const { return sent_ == total_; }
  std::uint64_t total() const { return total_; }
  std::uint64_t due();
  // Nothing is due: as Tally::wait_for() throws.
  void expect_progress();
  void sent() { ++sent_; }

 private:
  std::uint64_t window_, rate_, total_, sent_ = 0;
  std::uint64_t received_ = 0;  // when it last looked …
  Clock::time_point grown_{};   // … and when there were more
  const Tally& tally_;
  Clock::time_point start_{};
};

// From here to stop(): time and processor time, of this process and of `server`.
class Stopwatch {
 public:
  explicit Stopwatch(pid_t server = 0);
  void stop(std::uint64_t events, Result& result) const;

 private:
  double cpu() const;
  pid_t server_;
  double cpu_;
  Clock::time_point start_;
};

// Runs it in a process of its own, whose memory is then its own too. Throws what it threw.
Result measured(const std::function<Result()>& measure);

// Sends all of `pace`, a moment of sleep wherever nothing is due.
void send_all(Pace& pace, const std::function<void()>& send);

// False where a contender is not installed, or not wanted.
bool runs(const Options& options, const std::string& program);

// A server in a process of its own, ended with this; a folder and a free TCP port are its own.
class Server {
 public:
  // In `arguments` and `config`, which is written to "{dir}/config", "{port}" and "{dir}" are
  // replaced.
  Server(const Options& options, const std::string& program, std::vector<std::string> arguments,
         std::string config = "");
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  pid_t pid() const { return pid_; }
  int port() const { return port_; }

 private:
  std::string dir_;
  int port_;
  pid_t pid_ = 0;
};

}  // namespace mirrorbus::bench
