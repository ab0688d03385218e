#include "bus/net/zmq_handle.hpp"
#include "test/bench/contenders.hpp"

#include <thread>

namespace mirrorbus::bench {

using namespace std::chrono_literals;

Result bare(const Options& options, std::size_t size, bool paced) {
  net::ZmqContext context;
  net::ZmqOptions out = net::ZmqOptions::publisher();
  out.send_hwm = 200'000;
  net::ZmqHandle pub(context, net::ZmqType::XPub, out);
  const std::string endpoint = pub.bind("tcp://127.0.0.1:*");
  Tally tally;
  tally.keep = paced;
  Pace pace(options, paced, tally);
  std::thread subscriber([&] {
    net::ZmqOptions in = net::ZmqOptions::subscriber();
    in.receive_hwm = 200'000;
    net::ZmqHandle sub(context, net::ZmqType::Sub, in);
    sub.subscribe("");
    sub.connect(endpoint);
    net::ZmqFrame frame;
    while (tally.received < pace.total()) {
      if (!sub.receive(frame)) {
        sub.wait(false, 100ms);
        continue;
      }
      tally.take(frame.bytes());
    }
  });
  net::ZmqFrame joined;
  while (!pub.receive(joined)) pub.wait(false, 100ms);  // the subscription has arrived
  Result result;
  const Stopwatch watch;
  send_all(pace, [&] { pub.send(body_of(size)); });
  subscriber.join();
  watch.stop(pace.total(), result);
  tally.summarise(result);
  return result;
}

}  // namespace mirrorbus::bench
