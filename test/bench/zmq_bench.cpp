// How many single-frame messages a second the loop's sockets pass, lossless, publisher and
// subscriber each on a loop of its own; and the same with bare libzmq calls, in the same run.
#include "bus/net/zmq_socket.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>

using namespace mirrorbus;
using namespace std::chrono_literals;
using proto::Bytes;
using proto::ByteView;

namespace {

constexpr int kBurst = 64;                // messages between two turns of the publisher's loop
constexpr std::int64_t kWindow = 50'000;  // messages under way

net::ZmqOptions lossless(net::ZmqOptions options) {
  options.send_hwm = options.receive_hwm = 0;
  return options;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double on_loops(std::size_t size, std::int64_t count) {
  const base::SystemClock clock;
  base::Loop send_loop(clock), receive_loop(clock);
  net::ZmqContext context;
  std::atomic<std::int64_t> received = 0;
  std::atomic<bool> joined = false;
  net::ZmqSocket pub(send_loop, context, net::ZmqType::XPub,
                     lossless(net::ZmqOptions::publisher()));
  pub.on_frame([&joined](ByteView, const net::ZmqSender&) { joined = true; });
  const std::string endpoint = pub.bind("tcp://127.0.0.1:*");
  std::thread receiver([&] {
    net::ZmqSocket sub(receive_loop, context, net::ZmqType::Sub,
                       lossless(net::ZmqOptions::subscriber()));
    std::int64_t mine = 0;
    sub.on_frame([&mine](ByteView, const net::ZmqSender&) { ++mine; });
    sub.on_drained([&] {
      received = mine;
      if (mine == count) receive_loop.stop();
    });
    sub.subscribe("");
    sub.connect(endpoint);
    receive_loop.run();
  });
  while (!joined) send_loop.run_one(10ms);
  const Bytes message(size, 'm');
  const auto start = std::chrono::steady_clock::now();
  for (std::int64_t sent = 0; sent < count;) {
    if (sent - received < kWindow)
      for (int i = 0; i < kBurst && sent < count; ++i, ++sent) pub.send(message);
    send_loop.run_one(0ms);
  }
  receiver.join();
  return static_cast<double>(count) / seconds_since(start);
}

double bare(std::size_t size, std::int64_t count) {
  net::ZmqContext context;
  std::atomic<std::int64_t> received = 0;
  net::ZmqHandle pub(context, net::ZmqType::XPub, lossless(net::ZmqOptions::publisher()));
  const std::string endpoint = pub.bind("tcp://127.0.0.1:*");
  std::thread receiver([&] {
    net::ZmqHandle sub(context, net::ZmqType::Sub, lossless(net::ZmqOptions::subscriber()));
    sub.subscribe("");
    sub.connect(endpoint);
    net::ZmqFrame frame;
    for (std::int64_t mine = 0; mine < count; received = mine)
      if (sub.receive(frame))
        ++mine;
      else
        sub.wait(false, 1s);
  });
  net::ZmqFrame subscription;
  while (!pub.receive(subscription)) pub.wait(false, 10ms);
  const Bytes message(size, 'm');
  const auto start = std::chrono::steady_clock::now();
  for (std::int64_t sent = 0; sent < count;)
    if (sent - received < kWindow) {
      pub.send(ByteView(message));
      ++sent;
    }
  receiver.join();
  return static_cast<double>(count) / seconds_since(start);
}

}  // namespace

int main(int argc, char** argv) {
  const std::int64_t count = argc > 1 ? std::atoll(argv[1]) : 1'000'000;
  std::printf("%8s %14s %14s %8s\n", "bytes", "loop msg/s", "libzmq msg/s", "ratio");
  for (const std::size_t size : {64, 300, 512, 4096}) {
    const double raw = bare(size, count), loop = on_loops(size, count);
    std::printf("%8zu %14.0f %14.0f %8.2f\n", size, loop, raw, loop / raw);
  }
}
