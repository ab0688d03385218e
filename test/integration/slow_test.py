#!/usr/bin/python3
"""Subscribers that are slow, or stand still, cost the publisher and the others nothing.

    slow_test.py NAME=PROGRAM… [stopped=SECONDS] [events=N]
"""
import calendar
import signal
import statistics
import sys
import time

from world import World, main, peak_memory_kib, until

OPTIONS = dict(a.split("=", 1) for a in sys.argv[1:] if a.split("=")[0] in ("stopped", "events"))
STOPPED_S = float(OPTIONS.get("stopped", 10))
EVENTS = int(OPTIONS.get("events", 100_000))

class Pair(World):
    pause = 0.0

    def begin(self):
        self.configured = self.relay_config()
        relay = self.relay(self.configured)
        listen = self.listen_config("relayd")
        tails = [
            self.tail(listen, "--since", "start", log=f"tail{i}", pause=pause)
            for i, pause in enumerate((0.0, self.pause))
        ]
        self.publish(self.configured, 20)
        for tail in tails:
            until("it has joined", lambda t=tail: len(t.seqs()) >= 20)
        return relay, *tails

    def late(self, tail, seqs):
        """How long after they were made events came, in ms: the median and the 99th of a hundred."""
        wanted = set(seqs)
        ms = []
        for event, at in zip(tail.events, tail.at):
            if event["seq"] in wanted and ".shell." in event["topic"]:
                second, fraction = event["time"].rstrip("Z").split(".")
                made = calendar.timegm(time.strptime(second, "%Y-%m-%dT%H:%M:%S")) + float("0." + fraction)
                ms.append((at - made) * 1000)
        return statistics.median(ms), sorted(ms)[int(len(ms) * 0.99)]

class Slow(Pair):
    pause = 0.001

    def test_one_millisecond_for_each_event(self):
        relay, fast, slow = self.begin()
        alone = self.late(fast, self.publish(self.configured, 1000))
        before = peak_memory_kib(relay)
        start = time.monotonic()
        sent = self.publish(self.configured, EVENTS)
        published = time.monotonic() - start
        until("the fast one has all", lambda: fast.seqs()[-1][1] == sent[-1], 60)
        had = time.monotonic() - start
        behind = sent[-1] - slow.seqs()[-1][1]
        small = self.publish(self.configured, 1000)
        until("the fast one has these too", lambda: fast.seqs()[-1][1] == small[-1], 30)
        beside = self.late(fast, small)
        until("the slow one has all", lambda: slow.seqs()[-1][1] == small[-1], 60 + EVENTS * 0.004)
        took = time.monotonic() - start
        grown = peak_memory_kib(relay) - before
        for tail in (fast, slow):
            self.assertOnceInOrder(tail.seqs())
            self.assertEqual(tail.gaps, [])
            self.assertEqual([seq for _, seq in tail.seqs()][-len(sent) - len(small):], [*sent, *small])
        print(f"{EVENTS} events: published in {published:.1f} s, the fast one had them after {had:.1f} s, "
              f"when the slow one was {behind} behind; it had all after {took:.1f} s. The publisher grew by "
              f"{grown / 1024:.0f} MiB. The fast one's median and p99 latency: {alone[0]:.1f}, "
              f"{alone[1]:.1f} ms alone, {beside[0]:.1f}, {beside[1]:.1f} ms beside a slow one", flush=True)
        # 20,000 messages may wait for each subscriber.
        self.assertLess(grown, 100 << 10)
        self.assertLess(beside[0], alone[0] * 5 + 50)

class Stopped(Pair):
    def test_stopped_for_a_while(self):
        relay, fast, slow = self.begin()
        before = peak_memory_kib(relay)
        slow.process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        sent = []
        # In pieces, so that there is traffic for all of the time.
        while (left := STOPPED_S - (time.monotonic() - start)) > 0 or len(sent) < EVENTS // 2:
            piece = self.publish(self.configured, 5000)
            sent += piece
            if left > 0 and len(sent) >= EVENTS // 2:
                time.sleep(min(0.5, left))  # the outage is to last, whatever is published
        until("the fast one has all", lambda: fast.seqs()[-1][1] == sent[-1], 60)
        stood = slow.seqs()[-1][1]
        self.assertLess(stood, sent[-1])
        slow.process.send_signal(signal.SIGCONT)
        again = time.monotonic()
        until("the stopped one has all", lambda: slow.seqs()[-1][1] == sent[-1], 120)
        caught_up = time.monotonic() - again
        grown = peak_memory_kib(relay) - before
        for tail in (fast, slow):
            self.assertOnceInOrder(tail.seqs())
            self.assertEqual(tail.gaps, [])
            self.assertEqual([seq for _, seq in tail.seqs()][-len(sent):], sent)
        print(f"stopped for {again - start:.0f} s and {len(sent)} events: all had {caught_up:.1f} s after "
              f"it went on; the publisher grew by {grown / 1024:.0f} MiB", flush=True)
        self.assertLess(grown, 100 << 10)

if __name__ == "__main__":
    main([a for a in sys.argv if a.split("=")[0] not in OPTIONS])
