#!/usr/bin/python3
"""The Python subscriber against a real bus-relayd with a real OpenPGP key, fed by bus-logger.

    interop_test.py bus-relayd=PATH bus-logger=PATH
"""
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
from proxy import Proxy  # noqa: E402
from world import World, end_agent, main, make_key  # noqa: E402

PREFIX = "org.example.dev.shell"

class Interop(World):
    def setUp(self):
        super().setUp()
        self.relayd = self.relay_config()
        self.relay(self.relayd)

    def say(self, topic, count=5):
        """The events acknowledged, as (topic, seq, message)."""
        lines = [f"{topic} {i}" for i in range(count)]
        done = self.logger(
            self.relayd, "--json", "--topic", topic + ".say", text="".join(line + "\n" for line in lines)
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        seqs = sorted(json.loads(line)["seq"] for line in done.stdout.splitlines())
        return [(f"{PREFIX}.{topic}.say", seq, line) for seq, line in zip(seqs, lines)]

    def subscriber(self, *arguments, publish=None):
        process = subprocess.Popen(
            [sys.executable, HERE / "subscriber.py", "--home", self.home,
             "--publish", publish or f"ipc://{self.dir}/relayd.publish",
             "--serve", f"ipc://{self.dir}/relayd.serve", "--timeout", "40", *arguments],
            stdout=subprocess.PIPE, text=True,
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def said(self, process):
        """(events as `say` gives them, everything else it said)."""
        lines = [json.loads(line) for line in process.stdout]
        self.assertEqual(process.wait(), 0, lines)
        events = [line for line in lines if line.get("verified")]
        for event in events:
            self.assertEqual(event["signer"], "openpgp:" + self.key.lower())
            self.assertEqual(event["publisher"], "relayd@test.example.org")
            self.assertTrue(event["body"]["submitter"].startswith("ipc"))
        return (
            [(e["topic"], e["seq"], e["body"]["message"]) for e in events],
            [line for line in lines if not line.get("verified")],
        )

    def test_late_join_replays_everything_under_a_prefix(self):
        wanted = self.say("late") + self.say("other", 2) + self.say("late")
        mine = [event for event in wanted if ".late." in event[0]]
        events, rest = self.said(
            self.subscriber("--since", "start", "--prefix", PREFIX + ".late", "--count", str(len(mine)))
        )
        self.assertEqual(events, mine)
        self.assertEqual(rest, [])

    def test_live_events_after_replayed_ones(self):
        early = self.say("live", 3)
        process = self.subscriber("--since", "start", "--prefix", PREFIX + ".live", "--count", "403")
        first = json.loads(process.stdout.readline())
        self.assertEqual(first["seq"], early[0][1])
        later = self.say("live", 400)
        events, rest = self.said(process)
        self.assertEqual(events, (early + later)[1:])
        self.assertEqual(rest, [])

    def test_tampered_frames_are_refused_and_their_events_replayed(self):
        changed = []

        def change(frame):
            """Changes events: 1 its body, 2 the topic, 3 the header, 4 the seal; 0 stays as it is."""
            if frame[:1] == b"\1":
                return frame
            topic = frame.index(b"\0")
            places = {
                b"tamper 1": -1, b"tamper 2": topic - 1, b"tamper 3": topic + 60,
                b"tamper 4": topic + 200,
            }
            for message, at in places.items():
                if message in frame:
                    changed.append(message)
                    frame = bytearray(frame)
                    frame[at] ^= 1
                    return bytes(frame)
            return frame

        listen = f"ipc://{self.dir}/tampered"
        self.addCleanup(Proxy(f"ipc://{self.dir}/relayd.publish", listen, change).end)
        early = self.say("tamper", 1)
        process = self.subscriber(
            "--since", "start", "--prefix", PREFIX + ".tamper", "--count", "6", publish=listen
        )
        self.assertEqual(json.loads(process.stdout.readline())["seq"], early[0][1])
        wanted = self.say("tamper", 5)
        events, rest = self.said(process)
        self.assertEqual(events, wanted)
        self.assertGreaterEqual(len(changed), 3)
        reasons = {line["refused"] for line in rest}
        self.assertIn("bad_path", reasons)
        self.assertIn("bad_signature", reasons)

    def test_a_credential_of_a_key_not_trusted_is_refused(self):
        other = self.dir / "stranger"
        other.mkdir(mode=0o700)
        self.addCleanup(end_agent, other)
        make_key(other, "stranger@example.org")
        process = self.subscriber("--since", "start", "--home", other, "--timeout", "6")
        lines = [json.loads(line) for line in process.stdout]
        self.assertEqual(process.wait(), 1)
        self.assertIn("bad_signature", {line.get("refused") for line in lines})
        self.assertFalse([line for line in lines if line.get("verified")])

if __name__ == "__main__":
    main(sys.argv)
