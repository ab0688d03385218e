#include "test/bench/contenders.hpp"

#include <stdexcept>
#include <string>
#include <thread>

#include <mosquitto.h>

namespace mirrorbus::bench {
namespace {

using namespace std::chrono_literals;

// It keeps what is in flight in lists that it searches: with 50,000 it does 1,600 events a second.
constexpr int kWindow = 1000;

void check(int status, const char* doing) {
  if (status != MOSQ_ERR_SUCCESS)
    throw std::runtime_error(std::string("mosquitto, ") + doing + ": " +
                             mosquitto_strerror(status));
}

// A connection with a thread of its own.
struct Client {
  struct mosquitto* const client;

  Client(const Server& server, Tally* tally) : client(mosquitto_new(nullptr, true, tally)) {
    mosquitto_max_inflight_messages_set(client, kWindow);
    if (tally) {
      mosquitto_message_callback_set(
          client, [](struct mosquitto*, void* to, const mosquitto_message* message) {
            static_cast<Tally*>(to)->take({static_cast<const char*>(message->payload),
                                           static_cast<std::size_t>(message->payloadlen)});
          });
    }
    check(mosquitto_connect(client, "127.0.0.1", server.port(), 60), "connecting");
    if (tally) {
      check(mosquitto_subscribe(client, nullptr, "bench/event", 1), "subscribing");
      // The acknowledgement is the first thing that comes.
      check(mosquitto_loop(client, 5000, 1), "waiting");
      check(mosquitto_loop(client, 5000, 1), "waiting");
    }
    check(mosquitto_loop_start(client), "starting its thread");
  }
  ~Client() {
    mosquitto_disconnect(client);
    mosquitto_loop_stop(client, false);
    mosquitto_destroy(client);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
};

}  // namespace

Result mqtt(const Options& options, std::size_t size) {
  mosquitto_lib_init();
  Result result;
  {
    const Server server(options, "mosquitto", {"-c", "{dir}/config"},
                        "listener {port} 127.0.0.1\nallow_anonymous true\n"
                        "max_queued_messages 0\nmax_inflight_messages 1000\nuser root\n");
    Tally tally;
    const Client subscriber(server, &tally);
    const Client publisher(server, nullptr);
    Options few = options;
    few.window = kWindow;
    Pace pace(few, false, tally);
    const Stopwatch watch(server.pid());
    send_all(pace, [&] {
      const proto::Bytes body = body_of(size);
      check(mosquitto_publish(publisher.client, nullptr, "bench/event",
                              static_cast<int>(body.size()), body.data(), 1, false),
            "publishing");
    });
    tally.wait_for(pace.total());
    watch.stop(pace.total(), result);
  }
  mosquitto_lib_cleanup();
  return result;
}

}  // namespace mirrorbus::bench
