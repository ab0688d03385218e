#!/usr/bin/python3
"""Events from bus-logger through bus-relayd to bus-tail, over kills, absences and refusals."""
import random
import signal
import sqlite3
import subprocess
import sys
import threading

from world import World, main, until

SEED = random.randrange(1 << 30)

class Relay(World):
    def test_thirty_calls_from_a_shell(self):
        config = self.relay_config()
        self.relay(config)
        tail = self.tail(self.listen_config("relayd"), "--since", "start")
        call = f"{self.programs['bus-logger']} --config {config} --message $i"
        command = f"for i in $(seq 30); do {call} || exit; done"
        subprocess.run(["/bin/sh", "-c", command], check=True, timeout=120)
        until("30 of 30 seen", lambda: len(tail.seqs()) == 30)
        shell = [e["body"]["message"] for e in tail.events if ".shell." in e["topic"]]
        self.assertEqual(shell, [str(i) for i in range(1, 31)])

    def test_without_a_relay_the_logger_fails_in_time_and_says_where(self):
        config = self.relay_config()
        done = self.logger(config, "--message", "lost", timeout=1.5)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"ipc://{self.dir}/relayd.submit", done.stderr)

    def test_nothing_is_lost_over_kills_of_both_sides(self):
        print("seed", SEED, flush=True)
        chance = random.Random(SEED)
        config = self.relay_config()
        listen = self.listen_config("relayd")
        relay = self.relay(config)
        acknowledged, stop = [], threading.Event()

        def submit():
            while not stop.is_set():
                acknowledged.extend(self.publish(config, 200))

        sender = threading.Thread(target=submit)
        sender.start()
        self.addCleanup(sender.join)
        self.addCleanup(stop.set)
        cursor = self.dir / "cursor"
        lives = []
        for _ in range(5):
            lives.append(self.tail(listen, "--since", "start", "--cursor", cursor))
            more = chance.randrange(50, 1500)
            until("events come", lambda m=more: len(lives[-1].seqs()) >= m)
            relay.send_signal(signal.SIGKILL)
            relay.wait()
            self.end_tail(lives[-1], chance.choice([signal.SIGKILL, signal.SIGTERM]))
            relay = self.relay(config)
        stop.set()
        sender.join()
        lives.append(self.tail(listen, "--since", "start", "--cursor", cursor))
        until("the last one is seen",
              lambda: lives[-1].seqs() and lives[-1].seqs()[-1][1] >= max(acknowledged), 90)
        seen = set()
        for life in lives:
            self.assertOnceInOrder(life.seqs())
            self.assertEqual(life.gaps, [])
            seen.update(seq for _, seq in life.seqs())
        self.assertEqual(set(acknowledged) - seen, set())
        self.assertGreater(len(acknowledged), 1000)
        # What comes again after a restart is what came since the last cursor write, no more.
        again = sum(len(life.seqs()) for life in lives) - len(seen)
        print(f"{len(acknowledged)} acknowledged over 5 kills of each side, {again} again", flush=True)

    def away(self, config):
        """A tail that has been here, and is gone; its cursor is kept."""
        tail = self.tail(self.listen_config("relayd"), "--since", "start", "--cursor", self.dir / "cursor")
        early = self.publish(config, 10)
        until("the early ones are seen", lambda: len(tail.seqs()) == 10)
        self.end_tail(tail)
        return early[-1]

    def test_an_hour_away_is_replayed(self):
        config = self.relay_config()
        self.relay(config)
        self.away(config)
        missed = self.publish(config, 36_000)
        tail = self.tail(self.listen_config("relayd"), "--since", "start", "--cursor", self.dir / "cursor")
        until("all are seen", lambda: len(tail.seqs()) >= 36_000, 120)
        self.assertEqual([seq for _, seq in tail.seqs()], missed)
        self.assertEqual(tail.gaps, [])
        print(f"36,000 events replayed in {tail.at[-1] - tail.at[0]:.1f} s", flush=True)

    def test_an_hour_away_and_the_beginning_is_gone(self):
        config = self.relay_config(bus='retain_bytes = "16MiB"')
        self.relay(config)
        last = self.away(config)
        missed = self.publish(config, 36_000, size=800)
        journal = sqlite3.connect(f"file:{self.dir}/relayd/journal.sqlite?mode=ro", uri=True)
        self.addCleanup(journal.close)

        def oldest():
            # Written out: the file's own word, once retention has done all it is to do.
            kept, first = journal.execute("SELECT sum(length(row)), min(first_seq) FROM batch").fetchone()
            return first if kept <= 16 << 20 and first > last + 1 else None

        first = until("retention has cut", oldest, 60)
        tail = self.tail(self.listen_config("relayd"), "--since", "start", "--cursor", self.dir / "cursor")
        until("the newest is seen", lambda: tail.seqs() and tail.seqs()[-1][1] == missed[-1], 120)
        self.assertEqual(
            [(g["from"], g["to"], g["reason"]) for g in tail.gaps], [(last + 1, first - 1, "retention")]
        )
        self.assertEqual([seq for _, seq in tail.seqs()], list(range(first, missed[-1] + 1)))

    def test_a_token_opens_what_the_address_does_not(self):
        secret, other = self.dir / "token", self.dir / "other"
        secret.write_text("a secret of twenty-eight bytes\n")
        other.write_text("another one, of nobody at all\n")
        config = self.relay_config(
            more=f'[[relay.allow]]\nfrom = "token:build"\ntopics = ["org.example.dev.build.**"]\n'
                 f'[relay.tokens]\nbuild = "{secret}"\n'
        )
        relay = self.relay(config)
        tail = self.tail(
            self.listen_config("relayd"), "--since", "start", "--topic", "org.example.dev.build.**"
        )
        build = ["--service", "build", "--message", "done"]
        for arguments in (build, [*build, "--token-file", other]):
            refused = self.logger(config, *arguments)
            self.assertEqual(refused.returncode, 1)
            self.assertIn("not_allowed", refused.stderr)
        taken = self.logger(config, *build, "--token-file", secret)
        self.assertEqual(taken.returncode, 0, taken.stderr)
        until("it is seen", lambda: tail.events)
        self.assertRegex(tail.events[0]["body"]["submitter"], r"^ipc.* token:build$")
        self.assertNotIn("secret of", (self.dir / "relayd.log").read_text())
        # Gone with its rule.
        config.write_text(config.read_text().replace("token:build", "127.0.0.1"))
        relay.send_signal(signal.SIGHUP)
        until("reloaded", lambda: self.said("relayd", "reloaded"))
        self.assertEqual(self.logger(config, *build, "--token-file", secret).returncode, 1)

if __name__ == "__main__":
    main(sys.argv)
