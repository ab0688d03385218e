#include "bus/net/zmq_handle.hpp"
#include "test/bench/contenders.hpp"

#include <memory>
#include <thread>
#include <vector>

namespace mirrorbus::bench {

using namespace std::chrono_literals;

constexpr int kTurn = 256;  // messages taken from one subscriber before the next has its turn

Result bare(const Options& options, std::size_t size, bool paced) {
  net::ZmqContext context;
  net::ZmqOptions out = net::ZmqOptions::publisher();
  out.send_hwm = 200'000;
  net::ZmqHandle pub(context, net::ZmqType::XPub, out);
  const std::string endpoint = pub.bind("tcp://127.0.0.1:*");
  Tally tally(options.subscribers);
  tally.keep = paced;
  Pace pace(options, paced, tally);
  std::thread subscriber([&] {
    net::ZmqOptions in = net::ZmqOptions::subscriber();
    in.receive_hwm = 200'000;
    std::vector<std::unique_ptr<net::ZmqHandle>> subs;
    for (std::uint64_t i = 0; i < options.subscribers; ++i) {
      subs.push_back(std::make_unique<net::ZmqHandle>(context, net::ZmqType::Sub, in));
      subs.back()->subscribe("");
      subs.back()->connect(endpoint);
    }
    net::ZmqFrame frame;
    while (tally.received < pace.total()) {
      bool any = false;
      for (const auto& sub : subs)
        for (int turn = 0; turn < kTurn && sub->receive(frame); ++turn) {
          any = true;
          tally.take(frame.bytes());
        }
      if (!any) subs.front()->wait(false, subs.size() == 1 ? 100ms : 1ms);
    }
  });
  net::ZmqFrame joined;
  for (std::uint64_t i = 0; i < options.subscribers; ++i)  // the subscriptions have arrived
    while (!pub.receive(joined)) pub.wait(false, 100ms);
  Result result;
  const Stopwatch watch;
  send_all(pace, [&] { pub.send(body_of(size)); });
  subscriber.join();
  watch.stop(pace.total(), result);
  tally.summarise(result);
  return result;
}

}  // namespace mirrorbus::bench
