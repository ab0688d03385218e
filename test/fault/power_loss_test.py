#!/usr/bin/python3
"""The power goes while bus-relayd writes: what it had not synced comes back in part, torn, or not at all
(disk_model.py). It must start on that by itself, hold every event that it had acknowledged, in the same
bytes, and number on; who lived through it hears each once.

MIRRORBUS_LOSSES: how often (15). MIRRORBUS_SEED: of the moments and of what is left.
"""
import re
import signal
import subprocess
import sys
import time
import unittest

from disk_model import Disk
from faulty_world import (ENVIRONMENT, Account, FaultyWorld, events_of, has_address_sanitizer, main,
                          setting, until)
from held_journal import HeldJournal

LOSSES = setting("LOSSES", 15)


class PowerLoss(FaultyWorld):
    def setUp(self):
        super().setUp()
        if has_address_sanitizer(self.programs["bus-relayd"]):
            raise unittest.SkipTest("nothing can be preloaded before AddressSanitizer")
        self.state = "disk/relayd"
        (self.dir / "disk").mkdir()
        self.config = self.relay_config(state=self.state)
        self.account = Account("power loss")
        self.journal = HeldJournal(self.socket("serve"))
        self.rows, self.first = {}, 1

    def power_on(self):
        with open(self.dir / "relayd.log", "a", encoding="utf-8") as out:
            self.running = subprocess.Popen(
                [self.programs["bus-relayd"], "--config", self.config], stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, env={
                    **ENVIRONMENT, "LD_PRELOAD": self.programs["power-loss"],
                    "MIRRORBUS_DISK": str(self.dir / "disk"), "MIRRORBUS_DISK_LOG": str(self.dir / "notes"),
                    "MIRRORBUS_DISK_FAIL": str(self.dir / "fail"),
                },
            )
        self.addCleanup(self.end, self.running)

    def power_off(self):
        """The first time, and now and then, with nothing of what was not synced."""
        self.running.send_signal(signal.SIGKILL)
        self.running.wait()
        bare = self.account.runs == 0 or self.chance.random() < 0.2
        self.disk.lose_power(None if bare else self.chance)
        self.account.runs += 1

    def comes_back(self):
        """By itself, on what is left. False if it ends instead."""
        def there():
            return self.running.poll() is not None or self.control(self.state, "info")
        until("it answers or has ended", there)
        if self.running.poll() is not None:
            return False
        self.ready(self.state)
        return True

    def examine(self, acknowledged, thoroughly=False):
        """What is wrong with what is held, against what was acknowledged and what was held before."""
        wrong = []
        first = 1 if thoroughly else self.first
        # Its first batch says that it has started.
        try:
            until("it numbers on in an epoch of its own", lambda: self.journal.epoch() == self.epochs()[-1], 10)
        except AssertionError as late:
            wrong.append(str(late))
        rows, events = self.journal.read(first)
        for n, seq in acknowledged.items():
            if seq >= first and events.get(seq) != n:
                wrong.append(f"{seq} was acknowledged for {n} and is {events.get(seq)}")
        for seq, row in self.rows.items():
            if seq >= first and rows.get(seq) != row:
                wrong.append(f"the batch from {seq} on is not what it was")
        numbers = sorted(events)
        if wrong:
            wrong.insert(0, f"held: {len(events)} from {numbers[:1]} to {numbers[-1:]}, {len(rows)} batches")
        if numbers and numbers != list(range(numbers[0], numbers[-1] + 1)):
            wrong.append("seqs are missing")
        self.rows.update(rows)
        # Looked at again twice; all of it in the end.
        starts = sorted(self.rows)
        self.first = starts[max(0, len(starts) - 400)] if starts else 1
        return wrong

    def lose(self, load, turn):
        """One round; it runs before and behind it. What is wrong, or nothing."""
        time.sleep(self.chance.uniform(0, 0.6))  # the moment
        acknowledged = load.known()
        self.power_off()
        self.power_on()
        if self.chance.random() < 0.3:
            time.sleep(self.chance.uniform(0, 0.25))  # once more, while it starts
            self.power_off()
            self.power_on()
        began = time.monotonic()
        if not self.comes_back():
            return [f"turn {turn}: it does not start: {self.last_words()}"]
        self.account.recovered(time.monotonic() - began)
        return [f"turn {turn}: {what}" for what in self.examine(acknowledged, turn % 25 == 24)]

    def epochs(self):
        """That it has begun, in all its lives."""
        log = (self.dir / "relayd.log").read_text()
        return [int(epoch) for epoch in re.findall(r"credential 0 of epoch (\d+) in use", log)]

    def last_words(self):
        return (self.dir / "relayd.log").read_text()[-600:]

    def begin(self, lies=False):
        """A relay under load and a subscriber that lives through everything."""
        self.disk = Disk(self.dir / "disk", self.dir / "notes", lies)
        self.power_on()
        self.assertTrue(self.comes_back())
        return self.submitter(rate=250, window=16), self.tail_at(
            self.socket("publish"), self.socket("serve"), "tail"
        )

    def settle(self, load, tail):
        # Each run has a credential, of which one a second is checked; for much history, twice.
        acknowledged = self.finish(load, {"tail": tail}, 60 + 4 * self.account.runs)
        self.assertEqual(self.examine(acknowledged, thoroughly=True), [])
        self.assertOnceInOrder(self.epochs())
        self.account.hold([(events_of(tail), tail.gaps)], acknowledged)
        self.account.close(self)

    def test_power_loss(self):
        load, tail = self.begin()
        for turn in range(LOSSES):
            self.assertEqual(self.lose(load, turn), [])
        self.account.more = f"syncs={self.disk.syncs}"
        self.settle(load, tail)

    def test_a_disk_that_lies_is_noticed(self):
        """Or else the test above would find nothing either."""
        load, _ = self.begin(lies=True)
        for turn in range(20):
            if wrong := self.lose(load, turn):
                print(f"noticed in round {turn}: {wrong[0].splitlines()[0]}", flush=True)
                return
        self.fail("a disk that keeps nothing has lost nothing")

    def test_a_sync_that_fails(self):
        """The daemon ends and acknowledges nothing of it. What could not be synced is lost to a power loss
        also when a later sync succeeds, as with Linux: then the daemon that was started since must not have
        built on it."""
        self.account = Account("sync fails with EIO")
        load, tail = self.begin()
        for turn in range(max(4, LOSSES // 5)):
            self.load(load, self.chance.randrange(1, 60))
            (self.dir / "fail").touch()
            until("it has ended", lambda: self.running.poll() is not None, 20)
            self.assertEqual(self.running.returncode, 1)
            self.assertRegex(self.last_words(), "(?i)i/o error")
            self.account.runs += 1
            began, before = time.monotonic(), load.newest()
            self.power_on()
            self.assertTrue(self.comes_back(), self.last_words())
            until("it acknowledges again", lambda b=before: load.newest() > b)
            self.account.recovered(time.monotonic() - began)
            if turn % 2:
                acknowledged = load.known()
                self.power_off()
                self.power_on()
                self.assertTrue(self.comes_back(), self.last_words())
                self.assertEqual(self.examine(acknowledged), [])
            else:
                self.assertEqual(self.examine(load.known()), [])
        self.settle(load, tail)


if __name__ == "__main__":
    main(sys.argv)
