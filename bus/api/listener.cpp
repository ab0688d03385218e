#include "bus/api/mirrorbus.hpp"
#include "bus/peer/settings.hpp"
#include "bus/peer/sources.hpp"
#include "bus/peer/subscriber.hpp"
#include "proto/value.hpp"

#include <stdexcept>
#include <utility>

namespace mirrorbus {
namespace {

peer::Settings read_settings(const std::string& file) {
  return peer::Settings::read(base::Config::load(file), "listener");
}

peer::SubscriberOptions subscription(const Listener::Options& options,
                                     const peer::Settings& settings) {
  peer::SubscriberOptions wanted;
  for (const std::string& text : options.topics) {
    auto pattern = proto::TopicPattern::parse(text);
    if (!pattern) throw std::invalid_argument("\"" + text + "\" is not a topic pattern");
    wanted.patterns.push_back(std::move(*pattern));
  }
  if (options.from_oldest) wanted.start = peer::StartOldest{};
  wanted.gap_after = settings.bus.gap_after;
  return wanted;
}

}  // namespace

std::string Event::id() const {
  return peer::event_id(proto::Hash::from_bytes(stream), epoch, seq);
}

std::string Event::body_json() const { return proto::to_json(proto::unpack(body).value()); }

struct Listener::Impl {
  Impl(Options options, std::function<void(const Event&)> event,
       std::function<void(const Gap&)> gap)
      : on_event(std::move(event)),
        on_gap(std::move(gap)),
        settings(read_settings(options.config_file)),
        loop(clock),
        subscriber(loop, context, subscription(options, settings), settings.trust,
                   options.cursor_file, registry, base::Log(), handlers()),
        sources(loop, settings.discovery, "", registry, base::Log()) {
    sources.tell(subscriber);
  }

  peer::Subscriber::Handlers handlers() {
    peer::Subscriber::Handlers handlers;
    handlers.on_event = [this](const peer::Delivery& delivery) {
      if (!proto::unpack(delivery.body)) return peer::Outcome::Undecodable;
      const std::string signer =
          delivery.stream.scheme == proto::Scheme::None
              ? std::string()
              : trust::to_string({delivery.stream.scheme, delivery.stream.fingerprint});
      Event event;
      event.topic = delivery.topic;
      event.publisher = delivery.stream.publisher;
      event.signer = signer;
      event.epoch = delivery.epoch;
      event.seq = delivery.seq;
      event.time = base::from_ns(delivery.time_ns);
      event.body = delivery.body;
      event.stream = delivery.stream_id.view();
      on_event(event);
      return peer::Outcome::Delivered;
    };
    handlers.on_gap = [this](const peer::Gap& gap) {
      if (on_gap)
        on_gap({gap.stream.publisher, gap.epoch, gap.from, gap.to, peer::to_string(gap.reason)});
    };
    return handlers;
  }

  const std::function<void(const Event&)> on_event;
  const std::function<void(const Gap&)> on_gap;
  const peer::Settings settings;
  base::SystemClock clock;
  net::ZmqContext context;
  base::Registry registry;
  base::Loop loop;
  peer::Subscriber subscriber;
  peer::Sources sources;
};

Listener::Listener(Options options, std::function<void(const Event&)> on_event,
                   std::function<void(const Gap&)> on_gap)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(on_event), std::move(on_gap))) {}

Listener::~Listener() = default;

void Listener::run() {
  impl_->loop.run();
  impl_->subscriber.save_cursor();
}

void Listener::stop() { impl_->loop.stop(); }

}  // namespace mirrorbus
