#!/usr/bin/python3
"""A publisher that can only connect out hands its stream over to a relay, over kills of both and refusals."""
import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading

from world import World, end_agent, free_ports, main, make_key, until

RULE = """
[[relay.forward]]
from = "ipc"
publishers = ["inner*@test.example.org"]
"""

class Forward(World):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # The inner publisher has a key of its own, and its home is nobody else's.
        cls.inner_home = tempfile.mkdtemp(prefix="mirrorbus-world-", dir="/tmp")
        cls.addClassCleanup(shutil.rmtree, cls.inner_home, ignore_errors=True)
        cls.addClassCleanup(end_agent, cls.inner_home)
        cls.inner_key = make_key(cls.inner_home, "inner@example.org")
        public = subprocess.run(
            ["gpg", "--homedir", cls.inner_home, "--batch", "--export", cls.inner_key],
            check=True, capture_output=True,
        ).stdout
        subprocess.run(
            ["gpg", "--homedir", cls.home, "--batch", "--quiet", "--import"], input=public, check=True,
            capture_output=True,
        )

    def trusting_inner(self, path):
        """The same configuration, where both keys are believed."""
        text = path.read_text()
        path.write_text(text.replace(f'keys = ["{self.key}"]', f'keys = ["{self.key}", "{self.inner_key}"]'))
        return path

    def inner_config(self, name="inner", **settings):
        """Its sockets lie in a folder that only it knows of."""
        private = self.dir / f"private-{name}"
        private.mkdir(mode=0o700, exist_ok=True)
        path = self.relay_config(
            name, bus=f'forward = ["ipc://{self.dir}/outer.serve"]\n' + settings.pop("bus", ""),
            publish=f"ipc://{private}/publish", serve=f"ipc://{private}/serve", **settings,
        )
        path.write_text(
            path.read_text().replace(
                f'key = "{self.key}"\nhome = "{self.home}"',
                f'key = "{self.inner_key}"\nhome = "{self.inner_home}"',
            )
        )
        return path

    def outer_config(self, rule=RULE, **settings):
        return self.trusting_inner(self.relay_config("outer", rule, **settings))

    def listen(self):
        return self.trusting_inner(self.listen_config("outer"))

    def seqs_of(self, tail, publisher="inner@test.example.org"):
        return [(e["epoch"], e["seq"]) for e in tail.events
                if e["publisher"] == publisher and ".shell." in e["topic"]]

    def oldest(self, state, above):
        """The first seq in its journal, once retention has done all it is to do."""
        journal = sqlite3.connect(f"file:{self.dir}/{state}/journal.sqlite?mode=ro", uri=True)
        with contextlib.closing(journal):
            kept, first = journal.execute("SELECT sum(length(row)), min(first_seq) FROM batch").fetchone()
        return first if kept <= 16 << 20 and first > above else None

    def test_live_and_for_who_comes_late(self):
        self.relay(self.outer_config(), "outer")
        early = self.tail(self.listen(), "--since", "start", log="early")
        inner = self.inner_config()
        self.relay(inner, "inner")
        sent = self.publish(inner, 500)
        until("all are heard", lambda: len(self.seqs_of(early)) == 500)
        self.assertEqual([seq for _, seq in self.seqs_of(early)], sent)
        for event in early.events:
            if event["publisher"] == "inner@test.example.org":
                self.assertTrue(event["verified"])
                self.assertEqual(event["signer"].lower().split(":")[-1], self.inner_key.lower())
        # One line, heard soon: nothing waits for a repeated question.
        self.publish(inner, 1)
        until("the next is heard", lambda: len(self.seqs_of(early)) == 501, 5)
        late = self.tail(self.listen(), "--since", "start", log="late")
        until("all are replayed", lambda: len(self.seqs_of(late)) == 501)
        self.assertEqual(self.seqs_of(late), self.seqs_of(early))
        self.assertEqual([*early.gaps, *late.gaps], [])
        self.assertEqual(self.metric("inner", "mirrorbus_forward_lag_events"), 0)
        self.assertGreaterEqual(self.metric("outer", "mirrorbus_forwarded_events_total"), 501)

    def test_nothing_is_lost_over_kills_of_the_relay(self):
        outer_config, inner = self.outer_config(), self.inner_config()
        outer = self.relay(outer_config, "outer")
        self.relay(inner, "inner")
        tail = self.tail(self.listen(), "--since", "start")
        sent, stop = [], threading.Event()

        def submit():
            while not stop.is_set():
                sent.extend(self.publish(inner, 100))

        sender = threading.Thread(target=submit)
        sender.start()
        self.addCleanup(sender.join)
        self.addCleanup(stop.set)
        for _ in range(3):
            seen = len(self.seqs_of(tail))
            until("events come", lambda n=seen: len(self.seqs_of(tail)) > n + 100)
            outer.send_signal(signal.SIGKILL)
            outer.wait()
            outer = self.relay(outer_config, "outer")
        stop.set()
        sender.join()
        until("the last one is heard", lambda: self.seqs_of(tail)[-1][1] >= max(sent))
        self.assertEqual([seq for _, seq in self.seqs_of(tail)], sent)
        self.assertEqual([g for g in tail.gaps if g["publisher"].startswith("inner")], [])
        print(f"{len(sent)} events over 3 kills of the relay", flush=True)

    def test_nothing_is_lost_over_kills_of_the_publisher(self):
        self.relay(self.outer_config(), "outer")
        config = self.inner_config()
        inner = self.relay(config, "inner")
        tail = self.tail(self.listen(), "--since", "start")
        sent = []
        for _ in range(3):
            sent += self.publish(config, 300)
            inner.send_signal(signal.SIGKILL)
            inner.wait()
            inner = self.relay(config, "inner")
        sent += self.publish(config, 10)
        until("the last one is heard", lambda: self.seqs_of(tail) and self.seqs_of(tail)[-1][1] == sent[-1])
        self.assertEqual([seq for _, seq in self.seqs_of(tail)], sent)
        self.assertEqual(len({epoch for epoch, _ in self.seqs_of(tail)}), 4)
        self.assertEqual(tail.gaps, [])
        # And nothing in it looked like an attack.
        self.assertIsNone(self.said("tail", "refused a frame: (epoch_rollback|equivocation)"))
        # It was away; who comes now learns it all from the relay, although nobody else is there.
        late = self.tail(self.listen(), "--since", "start", log="late")
        until("all are replayed", lambda: len(self.seqs_of(late)) == len(sent))
        self.assertEqual(self.seqs_of(late), self.seqs_of(tail))

    def test_what_the_publisher_has_dropped_is_a_gap_with_a_name(self):
        config = self.inner_config(bus='retain_bytes = "16MiB"')
        self.relay(config, "inner")
        outer = self.relay(self.outer_config(), "outer")
        tail = self.tail(self.listen(), "--since", "start")
        first = self.publish(config, 20)
        until("the first are heard", lambda: len(self.seqs_of(tail)) == 20)
        outer.send_signal(signal.SIGKILL)
        outer.wait()
        sent = self.publish(config, 36_000, size=800)
        oldest = until("retention has cut", lambda: self.oldest("inner", above=first[-1] + 1), 60)
        self.relay(self.outer_config(), "outer")
        until("the last one is heard", lambda: self.seqs_of(tail)[-1][1] == sent[-1], 120)
        gaps = [(g["from"], g["to"], g["reason"]) for g in tail.gaps]
        self.assertEqual(len(gaps), 1, gaps)
        self.assertEqual((gaps[0][0], gaps[0][2]), (first[-1] + 1, "retention"))
        self.assertGreaterEqual(gaps[0][1], oldest - 1)
        self.assertEqual([seq for _, seq in self.seqs_of(tail)],
                         first + list(range(gaps[0][1] + 1, sent[-1] + 1)))

    def test_a_restored_publisher_is_named_and_goes_on(self):
        self.relay(self.outer_config(), "outer")
        config = self.inner_config()
        inner = self.relay(config, "inner")
        tail = self.tail(self.listen(), "--since", "start")
        before = self.publish(config, 50)
        until("the first are heard", lambda: len(self.seqs_of(tail)) == 50)
        self.end(inner)
        # Stopped as asked, it has handed over its last word too.
        until("its stop is heard", lambda: any(
            e["topic"].endswith(".bus.publisher.stop") and e["publisher"].startswith("inner") for e in tail.events), 5)
        shutil.copytree(self.dir / "inner", self.dir / "copy")
        inner = self.relay(config, "inner")
        lost = self.publish(config, 30)
        until("those too", lambda: len(self.seqs_of(tail)) == 80)
        self.end(inner, signal.SIGKILL)
        shutil.rmtree(self.dir / "inner")
        (self.dir / "copy").rename(self.dir / "inner")
        self.relay(config, "inner")
        after = self.publish(config, 20)
        until("what came after is heard", lambda: len(self.seqs_of(tail)) == 100)
        self.assertEqual([g["reason"] for g in tail.gaps], ["rewound"])
        self.assertEqual([seq for _, seq in self.seqs_of(tail)], before + lost + after)
        late = self.tail(self.listen(), "--since", "start", log="late")
        until("the history that holds", lambda: len(self.seqs_of(late)) == 70)
        self.assertEqual([seq for _, seq in self.seqs_of(late)], before + after)

    def test_by_name_and_with_a_token(self):
        port, = free_ports(1)
        secret = self.dir / "token"
        secret.write_text("a secret of twenty-eight bytes\n")
        rule = RULE.replace('"ipc"', '"token:inner"') + f'[relay.tokens]\ninner = "{secret}"\n'
        self.relay(self.outer_config(rule, serve=f"tcp://127.0.0.1:{port}"), "outer")
        config = self.inner_config(bus=f'forward_token_file = "{self.dir}/later"\n')
        config.write_text(config.read_text().replace(f"ipc://{self.dir}/outer.serve", f"tcp://localhost:{port}"))
        self.relay(config, "inner")
        until("nothing is taken without", lambda: self.said("inner", r"does not take our events: not_allowed"))
        shutil.copy(secret, self.dir / "later")
        sent = self.publish(config, 10)
        listen = self.listen()
        listen.write_text(listen.read_text().replace(f"ipc://{self.dir}/outer.serve", f"tcp://127.0.0.1:{port}"))
        tail = self.tail(listen, "--since", "start")
        until("all are heard", lambda: len(self.seqs_of(tail)) == 10)
        self.assertEqual([seq for _, seq in self.seqs_of(tail)], sent)
        self.assertNotIn("secret of", (self.dir / "outer.log").read_text())

    def test_without_a_rule_it_is_refused_by_name(self):
        rule = RULE.replace("inner*", "other")
        outer = self.relay(self.outer_config(rule), "outer")
        config = self.inner_config()
        self.relay(config, "inner")
        until("it is told", lambda: self.said("inner", r"does not take our events: not_allowed"))
        until("the relay says why", lambda: self.said("outer", r"no \[\[relay.forward\]\] rule covers inner@"))
        # Publishing goes on, and what was published meanwhile comes once there is a rule.
        sent = self.publish(config, 10)
        self.outer_config(RULE)
        outer.send_signal(signal.SIGHUP)
        tail = self.tail(self.listen(), "--since", "start")
        until("all are heard", lambda: len(self.seqs_of(tail)) == 10)
        self.assertEqual([seq for _, seq in self.seqs_of(tail)], sent)

    def test_a_key_that_policy_does_not_list_is_refused_by_name(self):
        self.relay(self.relay_config("outer", RULE), "outer")
        config = self.inner_config()
        self.relay(config, "inner")
        until("it is told", lambda: self.said("inner", r"does not take our events: policy_denied"))
        tail = self.tail(self.listen(), "--since", "start")
        until("the relay's own is heard", lambda: tail.events)
        self.publish(config, 5)
        self.assertEqual(self.metric("outer", "mirrorbus_forwarded_batches_total"), 0)
        self.assertEqual(self.seqs_of(tail), [])

if __name__ == "__main__":
    main(sys.argv)
