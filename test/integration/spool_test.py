#!/usr/bin/python3
"""bus-logger --spool: what is logged while the relay is away comes when it is back: once, in order."""
import json
import random
import shutil
import signal
import subprocess
import sys
import threading

from world import ENVIRONMENT, World, main, until

SEED = random.randrange(1 << 30)

class Spool(World):
    def setUp(self):
        super().setUp()
        self.spool = self.dir / "spool"
        self.relay_file = self.relay_config()

    def log(self, *arguments, text=None, timeout=0.3):
        return self.logger(self.relay_file, "--spool", self.spool, *arguments, text=text, timeout=timeout)

    def kept(self, *arguments, **more):
        done = self.log(*arguments, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"kept in {self.spool}", done.stderr)

    def sent(self, *arguments, text=None):
        done = self.log(*arguments, text=text, timeout=30)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def waiting(self):
        """How many events: file names say it."""
        return sum(int(path.stem.split("-")[1]) for path in self.spool.glob("*.event"))

    def listen(self):
        return self.tail(
            self.listen_config("relayd"), "--since", "start", "--topic", "org.example.dev.shell.**")

    def assertHeard(self, messages):
        """All of these, once and in order; and then nothing more that was submitted before now."""
        tail = self.listen()
        self.publish(self.relay_file, 1)
        until(lambda: f"{len(messages) + 1} events, not {len(tail.events)}",
              lambda: tail.events and tail.events[-1]["body"]["message"] == "event 0 ")
        self.assertEqual([e["body"]["message"] for e in tail.events], [*messages, "event 0 "])
        self.end_tail(tail)

    def test_down_then_up(self):
        self.kept("--message", "1")
        self.kept(text="2\n3\n4")
        for number in range(5, 12):
            self.kept("--message", str(number), timeout=0.1)
        self.assertEqual(self.waiting(), 11)
        self.assertEqual(self.spool.stat().st_mode & 0o777, 0o700)
        relay = self.relay(self.relay_file)
        self.sent(text="12\n13\n")
        self.assertEqual(self.waiting(), 0)
        self.sent("--message", "14")
        relay.send_signal(signal.SIGKILL)
        relay.wait()
        self.kept("--message", "15")
        self.relay(self.relay_file)
        self.sent("--flush")
        self.sent("--flush")
        self.assertHeard([str(number) for number in range(1, 16)])

    def test_flush_says_what_is_left(self):
        self.kept(text="1\n2\n")
        done = self.log("--flush")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"2 events still wait in {self.spool}: no acknowledgement from the relay", done.stderr)

    def test_a_relay_that_is_slow_and_what_it_had_all_the_same(self):
        relay = self.relay(self.relay_file)
        relay.send_signal(signal.SIGSTOP)
        self.kept(text="".join(f"{number}\n" for number in range(40)))
        self.kept("--message", "40")
        relay.send_signal(signal.SIGCONT)
        # As if the machine had lost its power between the acknowledgements and the removals.
        shutil.copytree(self.spool, self.dir / "copy")
        self.sent("--message", "41")
        shutil.copytree(self.dir / "copy", self.spool, dirs_exist_ok=True)
        self.sent("--message", "42")
        self.assertHeard([str(number) for number in range(43)])
        self.assertEqual(self.metric("relayd", "mirrorbus_relay_repeated_total"), 41)

    def test_killed_in_the_middle_of_keeping_and_of_sending(self):
        print("seed", SEED, flush=True)
        chance = random.Random(SEED)
        command = [self.programs["bus-logger"], "--config", self.relay_file, "--spool", self.spool]
        count = 0
        for _ in range(12):
            with subprocess.Popen([*command, "--timeout", "0.05"], stdin=subprocess.PIPE, text=True,
                                  stderr=subprocess.DEVNULL, env=ENVIRONMENT) as keeping:
                before, more = self.waiting(), chance.randrange(1, 60)
                for number in range(count, count + more):
                    keeping.stdin.write(f"{number}\n")
                    if chance.randrange(8) == 0:
                        keeping.stdin.flush()
                keeping.stdin.flush()
                some = chance.randrange(1, more + 1)
                until("some are kept", lambda b=before, m=some: self.waiting() >= b + m)
                keeping.kill()
            # What had its name by then is kept; the writer goes on behind it.
            count += self.waiting() - before
        self.relay(self.relay_file)
        # What was acknowledged and not yet removed when it was killed is submitted again.
        lives = 0
        while left := self.waiting():
            with subprocess.Popen([*command, "--flush"], env=ENVIRONMENT) as sending:
                some = chance.randrange(1, 20)
                until("some are sent", lambda a=left, m=some, p=sending:
                      self.waiting() <= a - m or p.poll() is not None)
                sending.kill()
            lives += 1
        self.assertGreater(lives, 2)
        self.assertHeard([str(number) for number in range(count)])

    def test_loggers_at_the_same_time(self):
        relay = self.relay(self.relay_file)

        def log(name):
            for number in range(12):
                done = self.log("--message", f"{name} {number}", timeout=0.2)
                if done.returncode:
                    failed.append(done.stderr)

        failed, loggers = [], [threading.Thread(target=log, args=(name,)) for name in "abcd"]
        for logger in loggers:
            logger.start()
        for _ in range(3):
            until("something is kept", lambda: (relay.send_signal(signal.SIGSTOP), self.waiting())[1])
            relay.send_signal(signal.SIGCONT)
            until("something is sent",
                  lambda: not self.waiting() or not any(logger.is_alive() for logger in loggers))
        for logger in loggers:
            logger.join()
        self.assertEqual(failed, [])
        self.sent("--flush")
        tail = self.listen()
        until("all are heard", lambda: len(tail.events) >= 48)
        self.publish(self.relay_file, 1)
        until("and one more", lambda: tail.events[-1]["body"]["message"] == "event 0 ")
        heard = [e["body"]["message"] for e in tail.events[:-1]]
        self.assertEqual(len(heard), 48)
        for name in "abcd":
            self.assertEqual([m for m in heard if m[0] == name], [f"{name} {number}" for number in range(12)])

    def test_a_limit_and_what_the_relay_will_not_have(self):
        self.kept("--message", "1", "--spool-limit", "1kB")
        full = self.log("--message", "x" * 900, "--spool-limit", "1kB")
        self.assertEqual(full.returncode, 1)
        self.assertIn(f"the spool {self.spool} is full", full.stderr)
        self.kept("--service", "other", "--message", "not allowed")
        self.kept("--message", "2")
        (self.spool / "00000000000000000000-1.event").write_bytes(b"not an event")
        self.relay(self.relay_file)
        done = self.log("--message", "3", timeout=30)
        self.assertEqual(done.returncode, 1)
        self.assertIn("not_allowed", done.stderr)
        self.assertIn("it cannot be read", done.stderr)
        self.assertEqual(self.waiting(), 0)
        self.assertEqual(len(list(self.spool.glob("*.refused"))), 2)
        self.assertHeard(["1", "2", "3"])
        # What no relay takes is not kept at all.
        large = self.log("--message", "x" * 70_000)
        self.assertEqual(large.returncode, 1)
        self.assertIn("more than 65536 bytes", large.stderr)
        self.assertEqual(self.log("--flush", "--message", "x").returncode, 2)
        self.assertEqual(self.logger(self.relay_file, "--flush").returncode, 2)
        self.assertEqual(self.log("--spool-limit", "much").returncode, 2)

    def test_lines_are_durable_while_the_next_one_is_waited_for(self):
        """An idle pipe: the relay comes, goes and comes back between two lines."""
        relay = self.relay(self.relay_file)
        command = [self.programs["bus-logger"], "--config", self.relay_file, "--spool", self.spool, "--json",
                   "--timeout", "0.5"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True, env=ENVIRONMENT) as logger:
            def write(line):
                logger.stdin.write(line + "\n")
                logger.stdin.flush()

            write("1")
            until("one is taken", lambda: self.metric("relayd", "mirrorbus_relay_accepted_total") == 1)
            relay.send_signal(signal.SIGSTOP)
            write("2")
            until("one is kept", lambda: self.waiting() == 1)
            relay.send_signal(signal.SIGCONT)
            write("3")
            until("all are sent", lambda: (write("more"), not self.waiting())[1])
            said, complaints = logger.communicate(timeout=30)
        self.assertEqual((logger.returncode, complaints), (0, ""))
        tail = self.listen()
        self.publish(self.relay_file, 1)
        until("all are heard", lambda: tail.events and tail.events[-1]["body"]["message"] == "event 0 ")
        heard = [e["body"]["message"] for e in tail.events]
        self.assertEqual(heard, ["1", "2", "3", *["more"] * (len(heard) - 4), "event 0 "])
        said = [json.loads(line) for line in said.splitlines()]
        self.assertEqual([("seq" in s, "kept" in s) for s in said][:2], [(True, False), (False, True)])

if __name__ == "__main__":
    main(sys.argv)
