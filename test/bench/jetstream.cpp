#include "test/bench/contenders.hpp"

#include <stdexcept>
#include <string>
#include <thread>

#include <nats/nats.h>

namespace mirrorbus::bench {
namespace {

using namespace std::chrono_literals;

void check(natsStatus status, const char* doing) {
  if (status != NATS_OK)
    throw std::runtime_error(std::string("NATS, ") + doing + ": " + natsStatus_GetText(status));
}

// A connection and its JetStream context.
struct Client {
  natsConnection* connection = nullptr;
  jsCtx* js = nullptr;

  Client(const Server& server, std::uint64_t window) {
    const std::string url = "nats://127.0.0.1:" + std::to_string(server.port());
    check(natsConnection_ConnectTo(&connection, url.c_str()), "connecting");
    jsOptions options;
    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = static_cast<std::int64_t>(window);
    check(natsConnection_JetStream(&js, connection, &options), "JetStream");
  }
  ~Client() {
    jsCtx_Destroy(js);
    natsConnection_Destroy(connection);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void add_stream() const {
    const char* subjects[] = {"bench.event"};
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    config.Name = "bench";
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Storage = js_FileStorage;
    config.Replicas = 1;
    check(js_AddStream(nullptr, js, &config, nullptr, nullptr), "adding a stream");
  }
  void publish(std::size_t size) const {
    const proto::Bytes body = body_of(size);
    check(js_PublishAsync(js, "bench.event", body.data(), static_cast<int>(body.size()), nullptr),
          "publishing");
  }
};

// An ordered consumer from the beginning.
struct Consumer {
  natsSubscription* subscription = nullptr;

  Consumer(const Client& client, Tally& tally) {
    jsSubOptions options;
    jsSubOptions_Init(&options);
    options.Ordered = true;
    const auto take = [](natsConnection*, natsSubscription*, natsMsg* message, void* closure) {
      static_cast<Tally*>(closure)->take(
          {natsMsg_GetData(message), static_cast<std::size_t>(natsMsg_GetDataLength(message))});
      natsMsg_Destroy(message);
    };
    check(js_Subscribe(&subscription, client.js, "bench.event", take, &tally, nullptr, &options,
                       nullptr),
          "subscribing");
    check(natsSubscription_SetPendingLimits(subscription, -1, -1), "limits");
  }
  ~Consumer() { natsSubscription_Destroy(subscription); }
  Consumer(const Consumer&) = delete;
  Consumer& operator=(const Consumer&) = delete;
};

void wait_for(const Tally& tally, std::uint64_t events) {
  tally.wait_for(events);
}

}  // namespace

Result jetstream(const Options& options, std::size_t size, bool paced) {
  const Server server(options, "nats-server",
                      {"-a", "127.0.0.1", "-p", "{port}", "-js", "-sd", "{dir}"});
  const Client publisher(server, options.window), subscriber(server, options.window);
  publisher.add_stream();
  Tally tally;
  tally.keep = paced;
  Result result;
  Pace pace(options, paced, tally);
  {
    const Consumer consumer(subscriber, tally);
    const Stopwatch watch(server.pid());
    send_all(pace, [&] { publisher.publish(size); });
    wait_for(tally, pace.total());
    watch.stop(pace.total(), result);
  }
  tally.summarise(result);
  return result;
}

Result jetstream_replay(const Options& options, std::size_t size) {
  const Server server(options, "nats-server",
                      {"-a", "127.0.0.1", "-p", "{port}", "-js", "-sd", "{dir}"});
  const Client publisher(server, options.window), subscriber(server, options.window);
  publisher.add_stream();
  for (std::uint64_t i = 0; i < options.events; ++i) publisher.publish(size);
  check(js_PublishAsyncComplete(publisher.js, nullptr), "completing");
  Tally tally;
  Result result;
  const Stopwatch watch(server.pid());
  const Consumer consumer(subscriber, tally);
  wait_for(tally, options.events);
  watch.stop(options.events, result);
  return result;
}

}  // namespace mirrorbus::bench
