#include "test/bench/harness.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <thread>

#include <arpa/inet.h>
#include <fmt/core.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace mirrorbus::bench {
namespace {

using namespace std::chrono_literals;

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(Clock::now().time_since_epoch().count());
}

std::uint64_t time_in(proto::ByteView body) {
  std::uint64_t time = 0;
  for (std::size_t i = 4; i < 12; ++i) time = time << 8 | static_cast<unsigned char>(body[i]);
  return time;
}

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

int free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("no free port");
  close(fd);
  return ntohs(address.sin_port);
}

bool listens(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in address = loopback(port);
  const bool does = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  close(fd);
  return does;
}

// Servers are in sbin, which is not in everybody's PATH.
std::string path_of(const std::string& program) {
  for (const char* folder : {"/usr/sbin/", "/usr/bin/"})
    if (std::filesystem::exists(folder + program)) return folder + program;
  return "";
}

}  // namespace

// A body of about `size` bytes that begins with the time it was made: a msgpack map {t, d}.
proto::Bytes body_of(std::size_t size) {
  proto::Bytes body("\x82\xa1t\xcf", 4);
  const std::uint64_t time = now_ns();
  for (int shift = 56; shift >= 0; shift -= 8) body += static_cast<char>(time >> shift);
  const std::size_t rest = size > body.size() + 5 ? size - body.size() - 5 : 0;
  body +=
      "\xa1"
      "d\xc5";
  body += static_cast<char>(rest >> 8);
  body += static_cast<char>(rest);
  body.append(rest, 'x');
  return body;
}
void Tally::take(proto::ByteView body) {
  if (keep) latencies_us.push_back(static_cast<std::uint32_t>((now_ns() - time_in(body)) / 1000));
  if (++taken_ % copies_ == 0) received.fetch_add(1, std::memory_order_release);
}

namespace {

// Called while nothing else is to be done; `seen` and `since` are the caller's memory.
void expect_progress(std::uint64_t received, std::uint64_t& seen, Clock::time_point& since) {
  const auto now = Clock::now();
  if (received != seen || since == Clock::time_point{}) {
    seen = received;
    since = now;
  } else if (now - since > 30s) {
    throw std::runtime_error(fmt::format("nothing came for 30 s after {} events", received));
  }
}

}  // namespace

void Tally::wait_for(std::uint64_t events) const {
  std::uint64_t seen = 0;
  Clock::time_point since{};
  while (received < events) {
    std::this_thread::sleep_for(1ms);
    expect_progress(received, seen, since);
  }
}

void Tally::summarise(Result& result) {
  if (latencies_us.empty()) return;
  std::ranges::sort(latencies_us);
  const auto at = [&](double q) {
    return static_cast<double>(
        latencies_us[static_cast<std::size_t>(q * static_cast<double>(latencies_us.size() - 1))]);
  };
  result.p50_us = at(0.5);
  result.p99_us = at(0.99);
  result.p999_us = at(0.999);
}

Pace::Pace(const Options& options, bool paced, const Tally& tally)
    : window_(options.window),
      rate_(paced ? options.rate : 0),
      total_(paced ? static_cast<std::uint64_t>(static_cast<double>(options.rate) * options.seconds)
                   : options.events),
      tally_(tally) {}

void Pace::expect_progress() { bench::expect_progress(tally_.received, received_, grown_); }

std::uint64_t Pace::due() {
  if (start_ == Clock::time_point{}) start_ = Clock::now();
  if (rate_ > 0) {
    const auto target = static_cast<std::uint64_t>(
        std::chrono::duration<double>(Clock::now() - start_).count() * static_cast<double>(rate_));
    return std::min(target, total_) - std::min(sent_, target);
  }
  const std::uint64_t in_flight = sent_ - tally_.received.load(std::memory_order_acquire);
  return std::min(total_ - sent_,
                  in_flight < window_ ? std::min<std::uint64_t>(window_ - in_flight, 256) : 0);
}

Stopwatch::Stopwatch(pid_t server) : server_(server), cpu_(cpu()), start_(Clock::now()) {}

namespace {

double peak_mb(pid_t process) {
  std::ifstream status("/proc/" + std::to_string(process) + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024;
  return 0;
}

}  // namespace

void Stopwatch::stop(std::uint64_t events, Result& result) const {
  result.per_second =
      static_cast<double>(events) / std::chrono::duration<double>(Clock::now() - start_).count();
  result.cpu_s = cpu() - cpu_;
  if (server_ != 0) result.rss_mb = peak_mb(server_);
}

double Stopwatch::cpu() const {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  double seconds = static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                   static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  if (server_ == 0) return seconds;
  // The 14th and 15th fields: user and system time, in ticks.
  std::ifstream stat("/proc/" + std::to_string(server_) + "/stat");
  std::string field;
  for (int i = 1; i <= 15 && stat >> field; ++i)
    if (i >= 14) seconds += std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
  return seconds;
}

namespace {

void write_all(int fd, const void* bytes, std::size_t size) {
  if (::write(fd, bytes, size) != static_cast<ssize_t>(size)) _exit(2);
}

}  // namespace

Result measured(const std::function<Result()>& measure) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  const pid_t child = ::fork();
  if (child == 0) {
    std::string why;
    Result result;
    try {
      result = measure();
    } catch (const std::exception& error) {
      why = *error.what() ? error.what() : "failed";
    }
    result.rss_mb += peak_mb(getpid());
    write_all(ends[1], &result, sizeof result);
    write_all(ends[1], why.data(), why.size());
    _exit(0);
  }
  ::close(ends[1]);
  std::string said;
  char block[4096];
  for (ssize_t n; (n = ::read(ends[0], block, sizeof block)) > 0;)
    said.append(block, static_cast<std::size_t>(n));
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  Result result;
  if (said.size() < sizeof result) throw std::runtime_error("its process ended");
  std::memcpy(&result, said.data(), sizeof result);
  if (said.size() > sizeof result) throw std::runtime_error(said.substr(sizeof result));
  return result;
}

void send_all(Pace& pace, const std::function<void()>& send) {
  while (!pace.done()) {
    const std::uint64_t due = pace.due();
    if (due == 0) {
      std::this_thread::sleep_for(50us);
      pace.expect_progress();
    }
    for (std::uint64_t i = 0; i < due; ++i, pace.sent()) send();
  }
}

bool runs(const Options& options, const std::string& program) {
  return !options.no_peers && !path_of(program).empty();
}

Server::Server(const Options& options, const std::string& program,
               std::vector<std::string> arguments, std::string config)
    : dir_(options.state + "/bus-bench-" + program + "-" + std::to_string(getpid())),
      port_(free_port()) {
  std::filesystem::create_directories(dir_);
  const auto fill_in = [&](std::string& text) {
    for (const auto& [what, with] :
         {std::pair<std::string, std::string>{"{port}", std::to_string(port_)}, {"{dir}", dir_}})
      if (const auto at = text.find(what); at != std::string::npos)
        text.replace(at, what.size(), with);
  };
  fill_in(config);
  std::ofstream(dir_ + "/config") << config;
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (std::string& argument : arguments) {
    fill_in(argument);
    argv.push_back(argument.data());
  }
  argv.push_back(nullptr);
  std::string path = std::string("PATH=/usr/sbin:/usr/bin:/bin");
  char* environment[] = {path.data(), nullptr};
  posix_spawn_file_actions_t quiet;
  posix_spawn_file_actions_init(&quiet);
  for (const int fd : {1, 2})
    posix_spawn_file_actions_addopen(&quiet, fd, (dir_ + "/log").c_str(),
                                     O_WRONLY | O_CREAT | O_APPEND, 0600);
  const int failed =
      posix_spawn(&pid_, path_of(program).c_str(), &quiet, nullptr, argv.data(), environment);
  posix_spawn_file_actions_destroy(&quiet);
  if (failed != 0) throw std::runtime_error("cannot start " + program);
  const auto end = Clock::now() + 10s;
  while (!listens(port_)) {
    if (Clock::now() > end) throw std::runtime_error(program + " does not listen");
    std::this_thread::sleep_for(10ms);
  }
}

Server::~Server() {
  kill(pid_, SIGTERM);
  waitpid(pid_, nullptr, 0);
  std::filesystem::remove_all(dir_);
}

}  // namespace mirrorbus::bench
