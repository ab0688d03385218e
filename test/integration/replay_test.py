#!/usr/bin/python3
"""bus-replay re-delivers a range: to standard output, to a program, to a relay; what is lost is named."""
import json
import signal
import sqlite3
import subprocess
import sys

from world import ENVIRONMENT, World, free_ports, main, until

NAME = "relayd@test.example.org"

class Replay(World):
    def replay(self, *arguments, listen=None, timeout=20):
        done = subprocess.run(
            [self.programs["bus-replay"], "--config", listen or self.listen, "--timeout", str(timeout),
             *arguments],
            capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=120,
        )
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    def published(self, count=12):
        """A relay in its second life; what a tail heard of both, by seq."""
        config = self.relay_config()
        relay = self.relay(config)
        self.listen = self.listen_config("relayd")
        self.publish(config, count // 2)
        self.end(relay)
        self.process = self.relay(config)
        self.publish(config, count // 2)
        tail = self.tail(self.listen, "--since", "start")
        until("the tail has all", lambda: len(tail.seqs()) == count)
        self.end_tail(tail)
        return {event["seq"]: event for event in tail.events}

    def test_a_range_comes_as_bus_tail_has_it(self):
        heard = self.published()
        last = max(heard)
        ranges = {f"3..{last - 2}": range(3, last - 1), "4..4": [4], "2..": range(2, last + 1)}
        for text, seqs in ranges.items():
            code, events, said = self.replay(NAME, text)
            self.assertEqual((code, said), (0, ""))
            self.assertEqual(events, [heard[seq] for seq in seqs])
        epoch = heard[last]["epoch"]
        second = [seq for seq in heard if heard[seq]["epoch"] == epoch]
        self.assertLess(len(second), len(heard))
        code, events, said = self.replay(NAME, f"{epoch}:{second[1]}..{last}", "--topic", "**.shell.**")
        self.assertEqual(code, 0, said)
        self.assertEqual([e["seq"] for e in events],
                         [seq for seq in second[1:] if ".shell." in heard[seq]["topic"]])
        code, events, said = self.replay(NAME, f"{epoch}:1..{last}")
        self.assertEqual((code, [e["seq"] for e in events]), (1, second))
        self.assertIn(f"{second[0] - 1} events of the range are not of epoch {epoch}", said)
        # Beyond what there is.
        code, events, said = self.replay(NAME, f"{last}..{last + 5}")
        self.assertEqual((code, [e["seq"] for e in events]), (1, [last]))
        self.assertIn(f"{NAME} has published up to {last} only", said)

    def test_whoever_is_not_there_and_wrong_usage(self):
        self.published()
        code, events, said = self.replay("nobody@test.example.org", "1..2", timeout=2)
        self.assertEqual((code, events), (1, []))
        self.assertIn("nobody@test.example.org in 2 s", said)
        for arguments in ((NAME, "2"), (NAME, "0..3"), (NAME, "3..2"), (NAME, "x:1..2"),
                          (NAME, "1..2", "--arg", "x"), (NAME,),
                          (NAME, "1..2", "--exec", "true", "--to-relay", "ipc:///nowhere")):
            code, events, said = self.replay(*arguments)
            self.assertEqual((code, events), (2, []), said)
            self.assertIn("bus-replay: ", said)

    def test_a_program_for_each_event(self):
        heard = self.published()
        taken = self.dir / "taken"
        script = self.dir / "a program"
        script.write_text(f"""#!/usr/bin/python3
import json, os, sys
event = json.load(sys.stdin)
names = ["TOPIC", "PUBLISHER", "EPOCH", "SEQ", "TIME", "ID", "SIGNER"]
with open({str(taken)!r}, "a") as file:
    environment = {{name.lower(): os.environ["MIRRORBUS_" + name] for name in names}}
    print(json.dumps([event, environment, sys.argv[1:]]), file=file)
sys.exit(event["seq"] in (5, 7))
""")
        script.chmod(0o755)
        # One argument has a space, and none is seen by a shell.
        command = ["--exec", script, "--arg", "$HOME *", "--arg=-x"]
        code, events, said = self.replay(NAME, "2..9", *command)
        lines = [json.loads(line) for line in taken.read_text().splitlines()]
        self.assertEqual((code, events), (1, []))
        self.assertRegex(said, rf"{NAME}:\d+:5 org.example.dev.shell.log.line: .* ended with 1")
        self.assertEqual([event["seq"] for event, *_ in lines], [2, 3, 4, 5])
        for event, environment, arguments in lines:
            self.assertEqual(event, heard[event["seq"]])
            self.assertEqual(environment, {name: str(event[name]) for name in environment})
            self.assertEqual(arguments, ["$HOME *", "-x"])
        taken.unlink()
        code, _, said = self.replay(NAME, "2..9", *command, "--keep-going")
        self.assertEqual((code, len(taken.read_text().splitlines())), (1, 8))
        self.assertEqual([said.count(f":{seq} org") for seq in (4, 5, 6, 7)], [0, 1, 0, 1])
        self.assertIn("2 of 8 events failed", said)
        code, events, _ = self.replay(NAME, "2..3", "--exec", "/bin/sleep 0", "--json")
        self.assertEqual((code, [e["seq"] for e in events]), (0, [2, 3]))
        code, _, said = self.replay(NAME, "2..3", "--exec", "no-such-program")
        self.assertEqual(code, 1)
        self.assertIn("no-such-program cannot be run: No such file", said)

    def test_to_a_relay_however_often_it_comes_once(self):
        heard = self.published(60)
        last = max(heard)
        other = self.relay_config("other")
        relay = self.relay(other, "other")
        to = ["--to-relay", f"ipc://{self.dir}/other.submit"]
        # Its own start and stop events are nothing that a relay takes from others.
        code, _, said = self.replay(NAME, f"1..{last}", *to)
        self.assertEqual(code, 1)
        self.assertIn("seq 1: the relay at", said)
        shell = ["--topic", "org.example.dev.shell.**"]
        self.assertEqual(self.replay(NAME, f"1..{last // 2}", *shell, *to)[0], 0)
        # Killed in the middle of it, and once more, from another place of the range.
        with open(self.dir / "replay.log", "w", encoding="utf-8") as log:
            killed = subprocess.Popen(
                [self.programs["bus-replay"], "--config", self.listen, NAME, "10..", *shell, *to], stderr=log,
                env=ENVIRONMENT)
        until("some are taken",
              lambda: (self.metric("other", "mirrorbus_relay_accepted_total") or 0) > last // 2)
        killed.kill()
        killed.wait()
        relay.send_signal(signal.SIGKILL)
        relay.wait()
        self.relay(other, "other")
        for _ in range(2):
            self.assertEqual(self.replay(NAME, f"1..{last}", *shell, *to), (0, [], ""))
        tail = self.tail(self.listen_config("other"), "--since", "start", log="other-tail", *shell)
        want = [heard[seq]["body"]["message"] for seq in sorted(heard) if ".shell." in heard[seq]["topic"]]
        until("all are heard again", lambda: len(tail.events) >= len(want))
        self.assertEqual([e["body"]["message"] for e in tail.events], want)
        self.publish(other, 1)
        until("one more", lambda: len(tail.events) == len(want) + 1)

    def test_what_is_lost_is_named(self):
        heard = self.published()
        journal = sqlite3.connect(self.dir / "relayd" / "journal.sqlite", timeout=20)
        self.addCleanup(journal.close)
        first, last = journal.execute(
            "SELECT first_seq, last_seq FROM batch WHERE first_seq > 2 ORDER BY first_seq LIMIT 1").fetchone()
        journal.execute("DELETE FROM batch WHERE first_seq = ?", (first,))
        journal.commit()
        code, events, said = self.replay(NAME, f"1..{max(heard)}", timeout=2)
        self.assertEqual(code, 1)
        self.assertIn(f"lost from {NAME}: {first} to ", said)
        gaps = [e["gap"] for e in events if "gap" in e]
        self.assertEqual([(g["from"], g["to"], g["reason"]) for g in gaps], [(first, last, "unavailable")])
        self.assertEqual([e["seq"] for e in events if "seq" in e],
                         [seq for seq in sorted(heard) if not first <= seq <= last])
        # What is lost outside of the range is nothing to it.
        self.assertEqual(self.replay(NAME, f"{last + 1}..{max(heard)}", timeout=2)[0], 0)

    def test_another_source_is_asked_if_the_first_does_not_answer(self):
        (dead,) = free_ports(1)
        config = self.relay_config(bus=f'advertise_serve = "tcp://127.0.0.1:{dead}"')
        self.relay(config)
        self.listen = self.listen_config("relayd")
        seqs = self.publish(config, 5)
        code, events, said = self.replay(NAME, f"{seqs[0]}..{seqs[-1]}")
        self.assertEqual((code, [e["seq"] for e in events]), (0, seqs), said)

if __name__ == "__main__":
    main(sys.argv)
