#!/usr/bin/python3
"""Wrong input on the bus against a real bus-mirrord and bus-tail: hostile_bus_test.py BUS_MIRRORD BUS_TAIL

Each case sends what is wrong, then something good: the wrong is counted under its name, exactly as often
as it was sent; nothing of it is delivered; the good is.
"""
import glob
import os
import pathlib
import queue
import random
import shutil
import struct
import sys
import tempfile
import threading
import time
import unittest

import msgpack
import nacl.signing

from hostile_publisher import BASE, GIB, HOUR, Batch, control, ok
from victim import TOPIC, Victim, has_address_sanitizer, until

MIRRORD, TAIL = sys.argv[1:3]
SHELL = f"{BASE}.shell.a.line"
POOL = 48  # one for each case, and those of the answers
RULES = {
    "good": ("org.example.dev.**", True),
    "shell": ("org.example.dev.shell.**", True),
    "leaver": ("org.example.dev.**", True),
    "absent": ("org.example.dev.**", False),  # a rule, but no key
    "stranger": ("", True),  # a key, but no rule
}
UPDATE = {
    "tree": b"t" * 16, "number": 1, "parent": bytes(32), "tree_hash": b"h" * 32, "time": 1,
    "counts": {"entries": 0, "files": 0, "directories": 0, "symlinks": 0, "bytes": 0},
    "changes": [], "changes_total": 0, "changes_more": False,
}
BODY = msgpack.packb(UPDATE)


class HostileBus(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # No tree is brought in here: the update events are of another publisher than the configured.
        cls.victim = Victim(MIRRORD, TAIL, origin="nobody@example.org", rules=RULES, buses=POOL)
        cls.addClassCleanup(cls.victim.close)
        cls.pool = [
            cls.victim.stream("good", f"pool{i}@example.org", bus) for i, bus in enumerate(cls.victim.buses)
        ]
        cls.victim.join(*cls.pool)
        cls.witness = cls.pool.pop()

    def setUp(self):
        self.stream = self.pool.pop()  # joined, at an endpoint of its own
        self.bus = self.stream.bus
        self.begin()

    def begin(self):
        """What is counted and printed is counted from here."""
        self.before = self.victim.metrics()
        self.refused_before = self.victim.refused()
        while not self.victim.events.empty():
            self.victim.events.get()

    def tearDown(self):
        self.victim.is_fine()

    def new_stream(self, key, name, **credential):
        """Another one at this case's endpoint, not announced yet."""
        return self.victim.stream(key, name + "@example.org", self.bus, **credential)

    def join(self, *streams):
        self.victim.join(*streams)
        self.begin()

    def grown(self, name):
        return int(self.victim.metrics().get(name, 0) - self.before.get(name, 0))

    def refused(self):
        """{reason: count} since the case began; what every good event here is in the end left out."""
        now = self.victim.refused()
        grown = {why: now[why] - self.refused_before.get(why, 0) for why in now}
        return {why: n for why, n in grown.items() if n and why != "foreign_tree"}

    def good_event(self, stream=None, topic=TOPIC):
        """Publishes one and waits until both have it; gives what bus-tail has printed by then."""
        stream = stream or self.witness
        before = self.victim.metrics()["mirrorbus_events_received_total"]
        stream.bus.send(*stream.batch([(topic, BODY)]).frames)
        printed = []

        def came():
            try:
                printed.append(self.victim.events.get(timeout=0.5))
            except queue.Empty:  # bus-tail has missed something: it learns so from a head
                stream.bus.send(stream.head())
                return False
            return (printed[-1]["publisher"], printed[-1]["seq"]) == (stream.publisher, stream.seq)

        until(self.victim.log, came, pause=0)
        if topic == TOPIC:

            def received():
                stream.bus.send(stream.head())
                return self.victim.metrics()["mirrorbus_events_received_total"] > before

            until(self.victim.log, received, pause=0.3)
        return printed

    def expect(self, refused, stream=None, *, printed=1, received=1):
        """After a good event exactly `refused` has been counted, and nothing else delivered."""
        events = self.good_event(stream)
        until(lambda: f"{self.refused()}, not {refused}", lambda: self.refused() == refused)
        self.assertEqual(len(events), printed, events)
        self.assertEqual(self.grown("mirrorbus_events_received_total"), received)

    def wait_refused(self, **counts):
        until(lambda: f"{self.refused()}, not yet {counts}\n{self.victim.log()}",
              lambda: all(self.refused().get(why, 0) >= n for why, n in counts.items()))

    def expect_among(self, wanted, others, count=None, *, stream=None, printed=1):
        """As expect, but only `wanted` must be counted and `others` may, `count` times in all if given."""
        events = self.good_event(stream)
        until(lambda: f"{self.refused()}, not yet {count} with {wanted}",
              lambda: wanted in self.refused() and sum(self.refused().values()) >= (count or 1))
        refused = self.refused()
        self.assertLessEqual(set(refused), {wanted, *others})
        self.assertIn(count, (None, sum(refused.values())), refused)
        self.assertEqual(len(events), printed, events)

    # ---- credentials and keys ----

    def test_key_not_in_the_keyring(self):
        stream = self.new_stream("absent", "absent")
        stream.announce()
        self.wait_refused(unknown_signer=1)
        self.bus.send(*stream.batch([(TOPIC, BODY)]).frames)
        self.expect_among("unknown_signer", {"unknown_credential"})

    def test_key_in_no_rule(self):
        stream = self.new_stream("stranger", "stranger")
        stream.announce()
        self.bus.send(*stream.batch([(TOPIC, BODY)]).frames)
        self.expect_among("policy_denied", {"unknown_credential"})

    def test_signature_of_a_credential(self):
        stream = self.new_stream("good", "badly-signed")
        document = stream.document()
        stream.use(document, stream.key.sign(document + b"x"))
        stream.announce()
        self.wait_refused(bad_signature=1)
        self.bus.send(*stream.batch([(TOPIC, BODY)], remember=False).frames)
        stream.use(document)  # the same, well signed
        self.join(stream)
        self.expect({}, stream)

    def test_credential_signed_by_another_trusted_key(self):
        stream = self.new_stream("good", "wrongly-signed")
        document = stream.document()
        stream.use(document, self.victim.keys["shell"].sign(document))
        stream.announce()
        self.wait_refused(wrong_signer=1)
        self.expect({"wrong_signer": 1})

    def test_expired_credential_on_the_live_path(self):
        now = time.time_ns()
        stream = self.new_stream(
            "good", "expired", issued=now - 3 * HOUR, not_before=now - 3 * HOUR, not_after=now - HOUR
        )
        stream.announce()
        until(self.victim.log, lambda: "expired@example.org" in self.victim.log())
        self.bus.send(*stream.batch([(TOPIC, BODY)], when=now - 2 * HOUR).frames)
        self.bus.send(stream.head(when=now - 2 * HOUR))
        self.expect({"credential_expired": 2})

    def test_history_of_yesterday_is_taken_from_replay(self):
        now = time.time_ns()
        stream = self.new_stream(
            "good", "yesterday",
            issued=now - 25 * HOUR, not_before=now - 25 * HOUR, not_after=now - 20 * HOUR,
        )
        batches = [stream.batch([(TOPIC, BODY)], when=now - 22 * HOUR) for _ in range(3)]
        history, stream.batches, stream.seq = stream.batches, [], 0
        stream.use(stream.document(serial=1))
        self.join(stream)
        stream.batches, stream.seq = history, len(batches)
        self.bus.send(stream.head())
        printed = self.good_event()
        until(self.victim.log, lambda: self.grown("mirrorbus_events_received_total") == 4)
        while len(printed) < 4:
            printed.append(self.victim.events.get(timeout=10))
        self.assertEqual([e["seq"] for e in printed if e["publisher"] == "yesterday@example.org"], [1, 2, 3])
        self.assertNotIn("credential_expired", self.refused())

    def test_credential_of_the_future(self):
        stream = self.new_stream("good", "early", issued=time.time_ns() + 400 * 10**9)
        stream.announce()
        self.expect({"credential_future": 1})

    def test_time_of_a_header_outside_its_credential(self):
        stream = self.stream
        for when in (time.time_ns() - 2 * HOUR, time.time_ns() + 25 * HOUR):
            self.bus.send(*stream.batch([(TOPIC, BODY)], when=when, remember=False).frames)
        self.expect({"credential_not_yet": 1, "credential_expired": 1}, stream)

    def test_times_no_clock_shows(self):
        for i, when in enumerate(((1 << 63) - 1, 1 << 63, (1 << 64) - 1)):
            stream = self.new_stream("good", f"end-of-time-{i}", issued=when, not_before=1,
                                        not_after=(1 << 64) - 1)
            stream.announce()
        stream = self.stream
        self.bus.send(stream.head(when=(1 << 64) - 1))
        self.expect({"credential_future": 3, "credential_expired": 1}, stream)

    def test_key_revoked_while_events_flow(self):
        stream = self.new_stream("leaver", "leaver")
        self.join(stream)
        revoked_at, arrived, stop = [], [], threading.Event()

        def revoke():
            stream.key.revoke_in(self.victim.dir / "trust")
            revoked_at.append(time.monotonic())

        def listen():
            while not stop.is_set():
                try:
                    event = self.victim.events.get(timeout=0.1)
                except queue.Empty:
                    continue
                if event.get("publisher") == stream.publisher:
                    arrived.append(time.monotonic())

        listener = threading.Thread(target=listen)
        listener.start()
        revoker = threading.Thread(target=revoke)
        noticed, sent, began = None, 0, time.monotonic()
        while (not noticed or time.monotonic() < noticed + 1) and time.monotonic() < began + 20:
            self.bus.send(*stream.batch([(TOPIC, BODY)]).frames)
            sent += 1
            if sent == 20:
                revoker.start()
            if not noticed and revoked_at and "key_revoked" in (self.victim.dir / "log").read_text():
                noticed = time.monotonic()
            time.sleep(0.02)
        stop.set()
        revoker.join()
        listener.join()
        self.assertTrue(noticed, self.victim.log())
        print(f"refused {noticed - revoked_at[0]:.2f} s after the import, last event printed "
              f"{arrived[-1] - revoked_at[0]:+.2f} s after it", file=sys.stderr)
        self.assertGreaterEqual(len(arrived), 20)
        self.assertLess(noticed - revoked_at[0], 2)
        self.assertLess(arrived[-1] - revoked_at[0], 2)
        self.wait_refused(key_revoked=10)
        self.good_event()

    # ---- who may say what ----

    def test_topic_outside_the_policy(self):
        stream = self.new_stream("shell", "shell")
        self.join(stream)
        self.bus.send(*stream.batch([(TOPIC, BODY)]).frames)
        self.wait_refused(policy_denied=1)
        self.expect({"policy_denied": 1})
        self.good_event(stream, SHELL)

    def test_topic_outside_the_scopes_of_the_credential(self):
        stream = self.new_stream("good", "narrow", scopes=[f"{BASE}.shell.**"])
        self.join(stream)
        self.bus.send(*stream.batch([(TOPIC, BODY)]).frames)
        self.wait_refused(scope_denied=1)
        self.expect({"scope_denied": 1})
        self.good_event(stream, SHELL)

    # ---- bytes changed after they were signed ----

    def test_changed_topic(self):
        stream = self.stream
        frame = stream.batch([(SHELL, BODY)]).frames[0]
        self.bus.send(frame.replace(SHELL.encode(), TOPIC.encode(), 1), frame)
        self.expect({"bad_path": 1}, stream, printed=2)

    def test_changed_body(self):
        stream = self.stream
        frame = stream.batch([(TOPIC, BODY)]).frames[0]
        self.bus.send(frame[:-1] + bytes([frame[-1] ^ 1]), frame)
        self.expect({"bad_path": 1}, stream, printed=2, received=2)

    def test_changed_seq(self):
        stream = self.stream
        batch = stream.batch([(TOPIC, BODY), (TOPIC, BODY)])
        at = batch.frames[0].index(b"\1\0" + struct.pack(">Q", stream.seq - 1)) + 2
        for seq in (stream.seq, stream.seq + 1, 0):
            frame = batch.frames[0]
            self.bus.send(frame[:at] + struct.pack(">Q", seq) + frame[at + 8 :])
        self.bus.send(*batch.frames)
        self.expect({"bad_path": 1, "bad_index": 1, "bad_field": 1}, stream, printed=3, received=3)

    def test_headers_that_are_not_the_publishers(self):
        stream = self.stream
        self.good_event(stream)
        self.begin()
        stranger = nacl.signing.SigningKey.generate()
        batch = stream.batch([(TOPIC, BODY)], remember=False)
        forged = Batch(batch.sealed[:148] + stranger.sign(batch.sealed[:148]).signature, batch.items)
        self.bus.send(*forged.frames)
        self.bus.send(*stream.batch([(TOPIC, BODY)], remember=False, tail=b"x" * 32).frames)  # another past
        stream.epoch += 1
        self.bus.send(*stream.batch([(TOPIC, BODY)], remember=False).frames)
        stream.epoch -= 1
        self.expect({"bad_signature": 1, "bad_chain": 1, "bad_field": 1}, stream)

    def test_events_of_an_epoch_gone_by(self):
        stream = self.stream
        old = stream.batch([(TOPIC, BODY)], remember=False)
        stream.epoch, stream.beat = stream.epoch + 1, 0
        stream.use(stream.document())
        self.join(stream)
        self.bus.send(*stream.batch([(TOPIC, BODY)]).frames)
        self.bus.send(*old.frames)
        self.expect({"epoch_rollback": 1}, stream, printed=2, received=2)

    def test_two_headers_for_one_batch(self):
        stream = self.stream
        first, other = (stream.batch([(TOPIC, BODY)], remember=False, deltas=[1, 1, 1, d]) for d in (1, 1))
        self.assertNotEqual(first.sealed, other.sealed)
        self.bus.send(*first.frames, *other.frames)
        stream.number, stream.seq = 1, 1
        self.bus.send(*stream.batch([(TOPIC, BODY)]).frames)  # nothing more of this epoch
        self.expect({"equivocation": 2}, printed=2, received=2)

    def test_duplicated_events(self):
        stream = self.stream
        self.bus.send(*stream.batch([(TOPIC, BODY)]).frames * 6)
        self.expect({}, stream, printed=2, received=2)
        self.assertEqual(self.grown("mirrorbus_duplicates_total"), 5)

    # ---- heads ----

    def test_old_head(self):
        stream = self.stream
        head = stream.head()
        self.bus.send(head, head, stream.head(beat=1))
        self.expect({"stale_head": 2}, stream)

    def test_heads_that_are_not_the_publishers(self):
        stream = self.stream
        self.bus.send(stream.head(session=nacl.signing.SigningKey.generate()))
        head = stream.head()
        self.bus.send(head[:-70] + bytes([head[-70] ^ 1]) + head[-69:])  # changed after it was signed
        self.bus.send(head[:2] + b"x" * 32 + head[34:])
        self.expect({"bad_signature": 2, "wrong_stream": 1}, stream)

    def test_publisher_whose_clock_shows_1970(self):
        stream = self.new_stream("good", "1970", issued=60 * 10**9, not_before=0)
        stream.announce()
        until(self.victim.log, lambda: "1970@example.org" in self.victim.log())
        self.bus.send(stream.head(when=61 * 10**9), *stream.batch([(TOPIC, BODY)], when=61 * 10**9).frames)
        self.wait_refused(credential_expired=2)
        # A credential that is good then and now: it is the head that tells that the clock is wrong.
        slow = self.new_stream("good", "slow-clock", not_before=0)
        self.join(slow)
        self.bus.send(slow.head(when=61 * 10**9))
        self.expect({"clock_skew": 1})

    # ---- sizes and shapes ----

    def test_truncated_frames(self):
        stream = self.stream
        frame = stream.batch([(TOPIC, BODY)]).frames[0]
        cut = [frame[:size] for size in range(len(TOPIC) + 1, len(frame))]
        self.bus.send(frame, *cut)
        self.expect_among("truncated", {"bad_path", "source_cut"}, len(cut), printed=2)
        self.assertGreater(self.refused()["truncated"], 212)

    def test_truncated_control_frames(self):
        stream = self.stream
        head, credential = stream.head(), control(b"C", stream.id, stream.sealed)
        cut = [frame[:size] for frame in (head, credential) for size in range(1, len(frame))]
        self.bus.send(*cut)
        self.expect_among("truncated", {"bad_magic", "trailing_bytes"}, len(cut), stream=stream)

    def test_length_fields_of_one_gibibyte(self):
        stream = self.stream
        sealed = stream.sealed
        self.bus.send(control(b"C", stream.id, struct.pack(">I", GIB) + sealed[4:]))
        self.bus.send(control(b"C", stream.id, struct.pack(">I", len(sealed) - 6) + sealed[4:]))
        frame = stream.batch([(TOPIC, BODY)]).frames[0]
        at = len(TOPIC) + 1 + 212  # how many nodes the path has
        self.bus.send(frame[:at] + b"\xff" + frame[at + 1 :], frame)
        head = stream.head(change=lambda signed: signed[:18] + b"\xff\xff" + signed[20:])
        self.bus.send(head)
        self.expect_among("too_large", {"truncated", "trailing_bytes"}, 4, stream=stream, printed=2)

    def test_bodies_nobody_should_unpack(self):
        stream = self.stream
        bodies = {
            "too_deep": b"\x91" * 17 + b"\xc0",
            "truncated": b"\xdd\xff\xff\xff\xff",  # an array of 2^32 - 1
            "too_large": b"\xde\xff\xff" + b"\xa1a\xc0" * 65535,
            "bad_msgpack": b"\xc1",
            "missing_key": b"\x80",
            "bad_utf8": msgpack.packb({"name": "x"}).replace(b"x", b"\xff"),
        }
        bodies["too_large"] = bodies["too_large"][:60000]
        for body in (*bodies.values(), b"\xc6" + struct.pack(">I", GIB), b"\xdf\xff\xff\xff\xff"):
            self.bus.send(*stream.batch([(TOPIC, body)]).frames)
        wanted = dict.fromkeys(bodies, 1) | {"truncated": 2, "too_large": 2}
        # Signed by their publisher, they are events: delivered, and refused by who must read them.
        until(self.victim.log, lambda: self.grown("mirrorbus_events_received_total") == 8)
        self.expect(wanted, stream, printed=2, received=9)  # bus-tail shows the one that is an empty map
        self.assertEqual(self.grown('mirrorbus_tree_updates_refused_total{tree="t"}'), 9)

    def test_frames_that_are_too_large(self):
        stream = self.stream
        frame = stream.batch([(TOPIC, BODY)], remember=False).frames[0]
        self.bus.send(frame.ljust(128 * 1024, b"x"))  # as large as a frame may be; an event may not
        self.expect({"too_large": 1}, stream)
        # What is larger ends the connection, and libzmq would not come back by itself.
        for more, size in enumerate((128 * 1024 + 1, 10 << 20), 1):
            self.bus.send(frame.ljust(size, b"x"))
            until(self.victim.log, lambda: self.grown("mirrorbus_connections_broken_total") == more)
            self.good_event(stream)

    def test_garbage(self):
        seed = int.from_bytes(os.urandom(4), "big")
        print("seed", seed, file=sys.stderr)
        draw = random.Random(seed)
        starts = [TOPIC.encode() + b"\0", b"\1", b"\1C", b"\1H" + self.witness.id]
        frames = [draw.choice(starts) + draw.randbytes(draw.randrange(1, 600)) for _ in range(400)]
        self.bus.send(*frames)
        others = {"bad_magic", "bad_field", "too_large", "wrong_stream", "trailing_bytes", "bad_version"}
        self.expect_among("truncated", others, len(frames))

    # ---- answers to its questions ----

    def answer_wrongly(self, stream, answer):
        """Says that an event was missed, and answers the question for it so at first; then truly."""
        stream.bus.answers["replay", stream.id].extend([answer, answer])  # the daemon's, and bus-tail's
        stream.batch([(TOPIC, BODY)])
        stream.bus.send(stream.head())

    def test_replays_that_are_not_what_was_published(self):
        def row(change):
            def answer(request):
                parts = [change(self.bus.streams[request["stream"]].batches[0][2].row)]
                return ok(request, parts, through=1, more=False, oldest=1, last=1)
            return answer

        def resigned(row):
            return row[:148] + nacl.signing.SigningKey.generate().sign(row[:148]).signature + row[212:]

        at = 212 + 1 + len(TOPIC)  # the size of the event
        wrong = {
            "truncated": [
                row(lambda r: r[:-1]), row(lambda r: r[:at] + struct.pack(">I", 60000) + r[at + 4 :]),
            ],
            "too_large": [row(lambda r: r[:at] + struct.pack(">I", GIB) + r[at + 4 :])],
            "trailing_bytes": [row(lambda r: r + b"x")],
            "bad_root": [row(lambda r: r[:-1] + bytes([r[-1] ^ 1]))],
            "bad_signature": [row(resigned)],
            "missing_key": [lambda request: ok(request, through=1)],
            "wrong_type": [lambda request: ok(request, through="all", more=False, oldest=1, last=1)],
            "busy": [lambda request: [
                msgpack.packb({"v": 1, "id": request["id"], "status": "busy", "after_ms": 10})
            ]],
        }
        answers = [answer for some in wrong.values() for answer in some]
        streams = [self.pool.pop() for _ in answers]
        for stream, answer in zip(streams, answers):
            self.answer_wrongly(stream, answer)
        until(self.victim.log, lambda: self.grown("mirrorbus_events_received_total") == len(streams))
        self.assertEqual(self.refused(), {why: len(answers) for why, answers in wrong.items()})
        self.good_event()

    def test_replay_that_leaves_out_the_last_event(self):
        def answer(request):
            return ok(request, through=request["to"], more=False, oldest=1, last=1)

        stream = self.stream
        stream.bus.answers["replay", stream.id].extend([answer, answer])  # the daemon's, and bus-tail's
        stream.batch([(TOPIC, BODY)])
        self.bus.send(stream.head(prefix=TOPIC))
        until(self.victim.log, lambda: self.grown("mirrorbus_events_received_total") == 1)
        self.expect({"seq_mismatch": 1}, printed=2, received=2)

    def test_answers_nobody_can_read(self):
        def answer(*frames):
            return lambda request: list(frames)

        wrong = {
            "too_deep": answer(b"\x91" * 17 + b"\xc0"),
            "truncated": answer(b"\xdd\xff\xff\xff\xff"),
            "bad_msgpack": answer(b"\xc1"),
            "wrong_type": answer(b"\x90"),
            "bad_version": lambda request: [msgpack.packb({"v": 2, "id": request["id"], "status": "ok"})],
            "too_large": lambda request: ok(request, [b""] * 4097),
        }
        streams = [self.pool.pop() for _ in wrong]
        for stream, each in zip(streams, wrong.values()):
            self.answer_wrongly(stream, each)
        until(self.victim.log, lambda: self.grown("mirrorbus_events_received_total") == len(streams))
        # Whose answers they were could not be read, so the questions ran into their time.
        self.assertEqual(self.refused(), dict.fromkeys(wrong, 1) | {"unavailable": len(wrong)})
        self.good_event()


# The daemon starts gpgconf, which hangs in its start with both libraries preloaded.
@unittest.skipIf(has_address_sanitizer(MIRRORD), "AddressSanitizer and libfaketime do not go together")
class ClockOf1970(unittest.TestCase):
    """The daemon's own clock is wrong: libfaketime, from a file that is changed while it runs."""

    def test_daemon_that_thinks_it_is_1970(self):
        clock = pathlib.Path(tempfile.mkdtemp(prefix="mirrorbus-clock-")) / "clock"
        self.addCleanup(shutil.rmtree, clock.parent)
        clock.write_text("1970-01-01 00:01:00")
        environment = [
            f"LD_PRELOAD={glob.glob('/usr/lib/*/faketime/libfaketimeMT.so.1')[0]}",
            f"FAKETIME_TIMESTAMP_FILE={clock}", "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ]
        victim = Victim(
            MIRRORD, None, origin="nobody@example.org", rules={"good": RULES["good"]},
            command=["env", *environment],
        )
        self.addCleanup(victim.close)
        stream = victim.stream("good", "later@example.org", victim.buses[0])
        stream.announce()
        stream.bus.send(stream.head())
        until(victim.log, lambda: victim.refused().get("credential_future"))
        victim.is_fine()
        for number in (1, 2):
            clock.write_text("+0")
            victim.join(stream)
            stream.bus.send(*stream.batch([(TOPIC, BODY)]).frames)
            until(victim.log, lambda: victim.metrics()["mirrorbus_events_received_total"] == number)
            clock.write_text("1970-01-01 00:01:00")  # the publisher is known now: its heads tell
            skewed = victim.refused().get("clock_skew", 0)

            def refused():
                stream.bus.send(stream.head())
                return victim.refused().get("clock_skew", 0) > skewed

            until(victim.log, refused, pause=0.2)
            victim.is_fine()


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
