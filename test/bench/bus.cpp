#include "bus/peer/publisher.hpp"
#include "bus/peer/subscriber.hpp"
#include "bus/store/sqlite_journal.hpp"
#include "bus/trust/session_key.hpp"
#include "test/bench/contenders.hpp"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>

#include <unistd.h>

namespace mirrorbus::bench {
namespace {

using namespace std::chrono_literals;

peer::Settings settings_for(const std::string& state, bool durable) {
  peer::Settings settings;
  settings.bus.prefix = "org.example";
  settings.bus.environment = "dev";
  settings.bus.publisher = "bench@localhost";
  settings.bus.state = state;
  settings.bus.publish = "tcp://127.0.0.1:*";
  settings.bus.durable = durable;
  peer::AllowSettings allow;
  allow.topics = {"**"};
  allow.unsigned_streams = true;
  settings.trust.allow.push_back(allow);
  return settings;
}

// A folder for a journal, removed with this.
struct State {
  std::string path;
  explicit State(const Options& options)
      : path(options.state + "/bus-bench-" + std::to_string(getpid())) {
    std::filesystem::create_directories(path);
  }
  ~State() { std::filesystem::remove_all(path); }
};

}  // namespace

Result bus(const Options& options, std::size_t size, bool durable, bool paced) {
  const State state(options);
  const peer::Settings settings = settings_for(state.path, durable);
  base::SystemClock clock;
  net::ZmqContext context;
  Tally tally(options.subscribers);
  tally.keep = paced;
  Pace pace(options, paced, tally);
  std::atomic<bool> joined = false;

  base::Loop publishing(clock), subscribing(clock);
  base::Registry publisher_metrics, subscriber_metrics;
  Result result;
  {
    peer::ServeServer serve(publishing, context, publisher_metrics);
    const std::string serve_endpoint = serve.bind("tcp://127.0.0.1:*");
    peer::Publisher publisher(publishing, context, settings, serve, serve_endpoint, "",
                              publisher_metrics, base::Log(),
                              [](std::exception_ptr error) { std::rethrow_exception(error); });
    std::thread subscriber_thread([&] {
      pthread_setname_np(pthread_self(), "subscriber");  // for profilers
      peer::SubscriberOptions subscription;
      subscription.patterns = {*proto::TopicPattern::parse("org.example.dev.bench.**")};
      std::vector<std::unique_ptr<peer::Subscriber>> subscribers;
      for (std::uint64_t i = 0; i < options.subscribers; ++i) {
        peer::Subscriber::Handlers handlers;
        handlers.on_event = [&](const peer::Delivery& event) {
          tally.take(event.body);
          if (tally.received == pace.total()) subscribing.stop();
          return peer::Outcome::Delivered;
        };
        subscribers.push_back(std::make_unique<peer::Subscriber>(
            subscribing, context, subscription, settings.trust, "", subscriber_metrics, base::Log(),
            std::move(handlers)));
        subscribers.back()->add_publisher(publisher.endpoint());
      }
      base::Timer watch(subscribing);
      std::function<void()> look = [&] {
        joined = std::ranges::all_of(subscribers, [](const auto& one) {
          const auto streams = one->streams();
          return !streams.empty() && streams.front().state == peer::StreamState::Current;
        });
        if (!joined) watch.start(10ms, [&] { look(); });
      };
      look();
      subscribing.run();
      for (const auto& subscriber : subscribers) {
        const auto& counts = subscriber->counts();
        result.replayed += counts.replayed;
        if (counts.gaps + counts.denied + counts.undecodable > 0)
          throw std::runtime_error("events were lost in the benchmark");
      }
    });
    std::optional<Stopwatch> stopwatch;
    base::Timer feed(publishing);
    std::function<void()> step = [&] {
      if (!joined) return feed.start(1ms, [&] { step(); });
      if (!stopwatch) stopwatch.emplace();
      const std::uint64_t now_due = pace.due();
      for (std::uint64_t due = now_due; due > 0; --due) {
        if (!publisher.publish("org.example.dev.bench.event", body_of(size))) break;
        pace.sent();
      }
      if (pace.done()) return;
      // As the bare publisher does: where there is nothing to send it leaves the processor to
      // others.
      if (paced || now_due == 0)
        feed.start(50us, [&] { step(); });
      else
        publishing.post([&] { step(); });
    };
    publisher.on_ready([&] { step(); });
    // It goes on answering until the last event is in: what the pipe dropped comes by replay.
    std::thread publisher_thread([&] {
      pthread_setname_np(pthread_self(), "publisher");
      publishing.run();
    });
    subscriber_thread.join();
    stopwatch->stop(pace.total(), result);
    publishing.post([&] { publishing.stop(); });
    publisher_thread.join();
  }
  tally.summarise(result);
  return result;
}

namespace {

// A journal of unsigned batches of `batch` events, as an earlier run of the publisher leaves it.
void fill(const peer::Settings& settings, std::uint64_t events, std::size_t size,
          std::size_t batch) {
  const base::SystemClock clock;
  store::SqliteJournal journal(settings.bus.state + "/journal.sqlite");
  proto::Credential credential;
  credential.stream.publisher = settings.bus.publisher;
  credential.epoch = journal.begin_epoch(base::to_ns(clock.now().wall) / 1'000'000);
  credential.issued_ns = credential.not_before_ns = base::to_ns(clock.now().wall);
  credential.not_after_ns = credential.not_before_ns + 3'600'000'000'000;
  credential.new_journal = true;
  credential.scopes = {settings.bus.base() + ".**"};
  trust::SessionKey key;
  credential.session_key = key.public_key();
  const proto::Bytes document = proto::encode_credential(credential);
  journal.put_credential(credential, {document, {}});

  peer::PublisherOptions options;
  options.base = settings.bus.base();
  options.signatures_per_second = options.signature_burst = 1e9;
  peer::PublisherCore core(options, credential.stream.id(), journal.tail(), credential.epoch);
  core.use_credential(credential, proto::credential_id(document), std::move(key));
  std::vector<store::JournalRow> rows;
  for (std::uint64_t i = 0; i < events;) {
    for (std::size_t k = 0; k < batch && i < events; ++k, ++i)
      if (!core.publish("org.example.dev.bench.event", body_of(size), clock.now()))
        throw std::runtime_error("filling the journal: not taken");
    auto sealed = core.next_batch(clock.now()).value();
    core.durable(sealed);
    rows.push_back(std::move(sealed.row));
    if (rows.size() < 1024 && i < events) continue;
    journal.append(rows);
    rows.clear();
  }
}

}  // namespace

Result bus_replay(const Options& options, std::size_t size, std::size_t batch) {
  const State state(options);
  const peer::Settings settings = settings_for(state.path, true);
  fill(settings, options.events, size, batch);
  base::SystemClock clock;
  net::ZmqContext context;
  base::Loop publishing(clock), subscribing(clock);
  base::Registry publisher_metrics, subscriber_metrics;
  peer::ServeServer serve(publishing, context, publisher_metrics);
  const std::string serve_endpoint = serve.bind("tcp://127.0.0.1:*");
  peer::Publisher publisher(publishing, context, settings, serve, serve_endpoint, "",
                            publisher_metrics, base::Log(),
                            [](std::exception_ptr error) { std::rethrow_exception(error); });
  std::thread publisher_thread([&] { publishing.run(); });

  Tally tally;
  peer::SubscriberOptions subscription;
  subscription.patterns = {*proto::TopicPattern::parse("org.example.dev.bench.**")};
  subscription.start = peer::StartOldest{};
  peer::Subscriber::Handlers handlers;
  handlers.on_event = [&](const peer::Delivery& event) {
    tally.take(event.body);
    if (tally.received == options.events) subscribing.stop();
    return peer::Outcome::Delivered;
  };
  Result result;
  {
    const Stopwatch watch;
    peer::Subscriber subscriber(subscribing, context, subscription, settings.trust, "",
                                subscriber_metrics, base::Log(), std::move(handlers));
    subscriber.add_publisher(publisher.endpoint());
    subscribing.run();
    watch.stop(options.events, result);
    if (subscriber.counts().gaps > 0) throw std::runtime_error("events were lost in the replay");
  }
  publishing.post([&] { publishing.stop(); });
  publisher_thread.join();
  return result;
}
}  // namespace mirrorbus::bench
