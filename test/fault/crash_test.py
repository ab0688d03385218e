#!/usr/bin/python3
"""kill -9 of a relay and of subscribers at random moments under load, and subscribers that stand still.
What was acknowledged is delivered: once to those who live; again at most from the last cursor write on to
those who were killed.

MIRRORBUS_KILLS: how often each is killed, and how many stand still (20). MIRRORBUS_SEED: of the moments.
"""
import contextlib
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time

from faulty_world import Account, FaultyWorld, caught_up, events_of, main, setting, until

KILLS = setting("KILLS", 20)


class Crash(FaultyWorld):
    def setUp(self):
        super().setUp()
        self.config = self.relay_config()
        self.running = self.relay(self.config)
        self.load_ = self.submitter()

    def tail(self, name, *arguments):
        return self.tail_at(self.socket("publish"), self.socket("serve"), name, *arguments)

    def test_relay_killed(self):
        account = Account("relay kill -9")
        tails = {name: self.tail(name) for name in ("all", "part")}
        self.load(self.load_)
        for _ in range(KILLS):
            time.sleep(self.chance.uniform(0, 0.4))  # the moment; also while it starts
            self.running.send_signal(signal.SIGKILL)
            self.running.wait()
            account.runs += 1
            began, before = time.monotonic(), self.load_.newest()
            self.running = self.start("bus-relayd", self.config, "relayd")
            if self.chance.random() < 0.7:
                until("it acknowledges again", lambda b=before: self.load_.newest() > b)
                account.recovered(time.monotonic() - began)
        # Each run has a credential, of which one a second is checked; for much history, twice.
        began = time.monotonic()
        acknowledged = self.finish(self.load_, tails, 60 + 4 * KILLS)
        account.more = f"complete_after_the_last={time.monotonic() - began:.1f}s"
        for tail in tails.values():
            account.hold([(events_of(tail), tail.gaps)], acknowledged)
        self.assertGreater(len(acknowledged), KILLS)
        account.close(self)

    def position(self, cursor):
        """How far a cursor file says that its subscriber was; 0 if it says nothing yet."""
        # A copy: opening it would mend what its own program is to mend.
        with tempfile.TemporaryDirectory(dir=self.dir) as copy:
            for file in self.dir.glob(cursor.name + "*"):
                if not file.name.endswith("-shm"):
                    shutil.copy(file, copy)
            with contextlib.closing(sqlite3.connect(f"{copy}/{cursor.name}")) as rows:
                try:
                    return rows.execute("SELECT max(position) FROM cursor").fetchone()[0] or 0
                except sqlite3.OperationalError:
                    return 0  # killed before it had made the table

    def test_subscriber_killed(self):
        account = Account("subscriber kill -9")
        cursor, lives, again = self.dir / "cursor", [], 0
        for _ in range(KILLS):
            kept = self.position(cursor)
            began, newest = time.time(), self.load_.newest()
            tail = self.tail("tail", "--cursor", cursor)
            account.runs += 1
            if self.chance.random() < 0.8:
                at = until("it has caught up", lambda t=tail, n=newest: caught_up(t, n))
                account.recovered(at - began)
            time.sleep(self.chance.uniform(0, 1.5))  # the moment
            self.end_tail(tail, signal.SIGKILL)
            now = self.position(cursor)
            if tail.events:
                # Everything from the cursor on, and nothing that lies before it.
                self.assertEqual(tail.events[0]["seq"], kept + 1)
                self.assertLessEqual(now, tail.events[-1]["seq"], "the cursor is ahead of what was printed")
                again += max(0, tail.events[-1]["seq"] - now)
            else:
                self.assertEqual(now, kept)
            lives.append(tail)
        lives.append(self.tail("tail", "--cursor", cursor))
        acknowledged = self.finish(self.load_, {"tail": lives[-1]})
        account.hold([(events_of(life), life.gaps) for life in lives], acknowledged)
        account.more = f"again_after_a_kill={again}"
        account.close(self)

    def test_subscribers_stand_still(self):
        """Stopped one by one in random order, and set going again in another."""
        account = Account("subscribers SIGSTOP")
        tails = {f"tail{i}": self.tail(f"tail{i}") for i in range(5)}
        until("all hear it", lambda: all(t.at for t in tails.values()))
        seconds = self.chance.uniform
        for _ in range(max(1, KILLS // 10)):
            still = self.chance.sample(sorted(tails), len(tails))
            for name in still:
                os.kill(tails[name].process.pid, signal.SIGSTOP)
                time.sleep(seconds(0.1, 1.0))  # the time it stands still
            time.sleep(seconds(0, 7.0))  # beyond the heartbeats' 6 s: some are disconnected
            self.chance.shuffle(still)
            for name in still:
                os.kill(tails[name].process.pid, signal.SIGCONT)
                began, newest = time.time(), self.load_.newest()
                at = until(f"{name} has caught up", lambda n=name, s=newest: caught_up(tails[n], s))
                account.recovered(at - began)
                account.runs += 1
        acknowledged = self.finish(self.load_, tails)
        for tail in tails.values():
            account.hold([(events_of(tail), tail.gaps)], acknowledged)
        account.close(self)


if __name__ == "__main__":
    main(sys.argv)
