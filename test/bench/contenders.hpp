// Who is measured. Each sends events of `size` bytes to one subscriber over TCP loopback and
// returns when all have arrived.
#pragma once

#include "test/bench/harness.hpp"

namespace mirrorbus::bench {

// libzmq alone: PUB and SUB, the same pacing, no numbers, no seals, no journal.
Result bare(const Options& options, std::size_t size, bool paced);

// The real publisher and subscriber, each on a loop and a thread of its own.
Result bus(const Options& options, std::size_t size, bool durable, bool paced);
// A subscriber that comes when all are in the journal, in batches of `batch` events.
Result bus_replay(const Options& options, std::size_t size, std::size_t batch);

// NATS JetStream, one replica, in files: asynchronous publishing, an ordered consumer.
Result jetstream(const Options& options, std::size_t size, bool paced);
Result jetstream_replay(const Options& options, std::size_t size);

// MQTT through mosquitto, QoS 1 both ways, 1,000 in flight.
Result mqtt(const Options& options, std::size_t size);

}  // namespace mirrorbus::bench
