#!/usr/bin/python3
"""The Python subscriber against a real bus-relayd with a real OpenPGP key, fed by bus-logger.

    interop_test.py BUS_RELAYD BUS_LOGGER

Everything is in a directory of its own and speaks over ipc: no ports.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

import zmq

HERE = pathlib.Path(__file__).parent
RELAYD, LOGGER = sys.argv[1:3]
PREFIX = "org.example.dev.shell"
CONFIG = """
[bus]
prefix = "org.example"
environment = "dev"
publisher = "relayd@interop.example.org"
state = "{dir}/state"
publish = "ipc://{dir}/publish"
serve = "ipc://{dir}/serve"
[signing]
scheme = "openpgp"
key = "{key}"
home = "{dir}/gnupg"
[relay]
submit = ["ipc://{dir}/submit"]
connect = "ipc://{dir}/submit"
[[relay.allow]]
from = "ipc"
topics = ["org.example.dev.shell.**"]
"""

def make_key(home):
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", home, "--batch", "--quiet"]
    subprocess.run(
        [*gpg, "--passphrase", "", "--quick-gen-key", "relay@example.org", "ed25519", "sign", "1y"],
        check=True, capture_output=True,
    )
    listed = subprocess.run(
        [*gpg, "--with-colons", "--list-keys"], check=True, capture_output=True, text=True
    ).stdout
    return next(line for line in listed.splitlines() if line.startswith("fpr:")).split(":")[9]

class Tamper(threading.Thread):
    """Stands between publisher and subscriber; `change` gets every event frame and gives what to send."""

    def __init__(self, source, listen, change):
        super().__init__(daemon=True)
        self.source, self.listen, self.change = source, listen, change
        self.stopping = threading.Event()
        self.bound = threading.Event()

    def run(self):
        context = zmq.Context.instance()
        out, into = context.socket(zmq.XPUB), context.socket(zmq.XSUB)
        for socket in (out, into):
            socket.linger = 0
        out.bind(self.listen)
        self.bound.set()
        # Only when the subscriber is there: the publisher greets each subscription once.
        connected = False
        while not self.stopping.is_set():
            if out.poll(20):
                subscription = out.recv()
                if not connected:
                    into.connect(self.source)
                    connected = True
                into.send(subscription)
            while connected and into.poll(0):
                frame = into.recv()
                out.send(frame if frame[:1] == b"\1" else self.change(frame))
        out.close()
        into.close()

class Interop(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="mirrorbus-interop-", dir="/tmp"))
        cls.addClassCleanup(shutil.rmtree, cls.dir, ignore_errors=True)
        cls.key = make_key(cls.dir / "gnupg")
        cls.addClassCleanup(
            subprocess.run, ["gpgconf", "--homedir", cls.dir / "gnupg", "--kill", "all"], check=False
        )
        cls.config = cls.dir / "relay.toml"
        cls.config.write_text(CONFIG.format(dir=cls.dir, key=cls.key))
        log = open(cls.dir / "log", "w", encoding="utf-8")
        cls.addClassCleanup(log.close)
        cls.relay = subprocess.Popen([RELAYD, "--config", cls.config], stderr=log)
        cls.addClassCleanup(cls.relay.wait, 15)
        cls.addClassCleanup(cls.relay.terminate)
        cls.publish("first", count=1)  # the relay is up when this is acknowledged

    @classmethod
    def publish(cls, topic, count=5):
        """The events acknowledged, as (topic, seq, message)."""
        lines = [f"{topic} {i}" for i in range(count)]
        done = subprocess.run(
            [LOGGER, "--config", cls.config, "--json", "--timeout", "30", "--topic", topic + ".say"],
            input="".join(line + "\n" for line in lines),
            capture_output=True, text=True, check=False,
        )
        if done.returncode:
            raise RuntimeError(f"bus-logger: {done.stderr}\n{(cls.dir / 'log').read_text()}")
        seqs = sorted(json.loads(line)["seq"] for line in done.stdout.splitlines())
        return [(f"{PREFIX}.{topic}.say", seq, line) for seq, line in zip(seqs, lines)]

    def subscriber(self, *arguments, publish=None):
        process = subprocess.Popen(
            [sys.executable, HERE / "subscriber.py", "--home", self.dir / "gnupg",
             "--publish", publish or f"ipc://{self.dir}/publish",
             "--serve", f"ipc://{self.dir}/serve", "--timeout", "40", *arguments],
            stdout=subprocess.PIPE, text=True,
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def said(self, process):
        """(events as `publish` gives them, everything else it said)."""
        lines = [json.loads(line) for line in process.stdout]
        self.assertEqual(process.wait(), 0, lines)
        events = [line for line in lines if line.get("verified")]
        for event in events:
            self.assertEqual(event["signer"], "openpgp:" + self.key.lower())
            self.assertEqual(event["publisher"], "relayd@interop.example.org")
            self.assertTrue(event["body"]["submitter"].startswith("ipc"))
        return (
            [(e["topic"], e["seq"], e["body"]["message"]) for e in events],
            [line for line in lines if not line.get("verified")],
        )

    def test_late_join_replays_everything_under_a_prefix(self):
        wanted = self.publish("late") + self.publish("other", 2) + self.publish("late")
        mine = [event for event in wanted if ".late." in event[0]]
        events, rest = self.said(
            self.subscriber("--since", "start", "--prefix", PREFIX + ".late", "--count", str(len(mine)))
        )
        self.assertEqual(events, mine)
        self.assertEqual(rest, [])

    def test_live_events_after_replayed_ones(self):
        early = self.publish("live", 3)
        process = self.subscriber("--since", "start", "--prefix", PREFIX + ".live", "--count", "403")
        first = json.loads(process.stdout.readline())
        self.assertEqual(first["seq"], early[0][1])
        later = self.publish("live", 400)
        events, rest = self.said(process)
        self.assertEqual(events, (early + later)[1:])
        self.assertEqual(rest, [])

    def test_tampered_frames_are_refused_and_their_events_replayed(self):
        changed = []

        def change(frame):
            """Event 0 as it is; 1 with another body, 2 another topic, 3 another header, 4 other seal."""
            topic = frame.index(b"\0")
            places = {b"tamper 1": -1, b"tamper 2": topic - 1, b"tamper 3": topic + 60, b"tamper 4": topic + 200}
            for message, at in places.items():
                if message in frame:
                    changed.append(message)
                    frame = bytearray(frame)
                    frame[at] ^= 1
                    return bytes(frame)
            return frame

        listen = f"ipc://{self.dir}/tampered"
        tamper = Tamper(f"ipc://{self.dir}/publish", listen, change)
        tamper.start()
        self.addCleanup(tamper.join)
        self.addCleanup(tamper.stopping.set)
        self.assertTrue(tamper.bound.wait(10))
        early = self.publish("tamper", 1)
        process = self.subscriber(
            "--since", "start", "--prefix", PREFIX + ".tamper", "--count", "6", publish=listen
        )
        self.assertEqual(json.loads(process.stdout.readline())["seq"], early[0][1])
        wanted = self.publish("tamper", 5)
        events, rest = self.said(process)
        self.assertEqual(events, wanted)
        self.assertGreaterEqual(len(changed), 3)
        reasons = {line["refused"] for line in rest}
        self.assertIn("bad_path", reasons)
        self.assertIn("bad_signature", reasons)

    def test_a_credential_of_a_key_not_trusted_is_refused(self):
        other = self.dir / "stranger"
        make_key(other)
        self.addCleanup(subprocess.run, ["gpgconf", "--homedir", other, "--kill", "all"], check=False)
        process = self.subscriber("--since", "start", "--home", other, "--timeout", "6")
        lines = [json.loads(line) for line in process.stdout]
        self.assertEqual(process.wait(), 1)
        self.assertIn("bad_signature", {line.get("refused") for line in lines})
        self.assertFalse([line for line in lines if line.get("verified")])

if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
