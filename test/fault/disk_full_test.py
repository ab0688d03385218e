#!/usr/bin/python3
"""The file system under a relay's journal fills up under load, again and again. Nothing is acknowledged then,
the daemon says so and lives; when there is space it goes on by itself, with everything it had acknowledged.

MIRRORBUS_FULL: how often (6). MIRRORBUS_SEED: of the moments and of what is left free.
"""
import os
import shutil
import signal
import socket
import sys
import time
import unittest

import namespaces
from faulty_world import Account, FaultyWorld, caught_up, events_of, main, setting, until
from held_journal import HeldJournal

TIMES = setting("FULL", 6)
NONE = namespaces.enter("mount")


class DiskFull(FaultyWorld):
    @classmethod
    def setUpClass(cls):
        if NONE:
            raise unittest.SkipTest(NONE)
        super().setUpClass()

    def start_on_small_disk(self, size, bus):
        self.disk = self.dir / "disk"
        try:
            namespaces.small_disk(self.disk, size)
        except RuntimeError as error:
            raise unittest.SkipTest(f"nothing may be mounted: {error}") from error
        self.addCleanup(namespaces.run, "umount", "--lazy", str(self.disk))
        self.state = "disk/relayd"
        self.config = self.relay_config(state=self.state, bus=bus)
        self.running = self.start("bus-relayd", self.config, "relayd")
        self.ready(self.state)

    def fill(self, leave):
        """Leaves so many bytes, as far as pages allow."""
        with open(self.disk / "filler", "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(1 << 16))
            except OSError:
                pass
            filler.truncate(max(0, filler.tell() - leave))

    def page(self, name):
        """(status, text) of the daemon's own HTTP."""
        info = self.control(self.state, "info")
        with socket.create_connection(("127.0.0.1", info["http_port"]), 20) as s:
            s.sendall(f"GET /{name} HTTP/1.0\r\n\r\n".encode())
            with s.makefile() as answer:
                text = answer.read()
        return int(text.split()[1]), text

    def space(self):
        sizes = {path.name: path.stat().st_size for path in (self.disk / "relayd").iterdir()}
        return f"{shutil.disk_usage(self.disk).free} bytes free beside {sizes}"

    def tried(self):
        return self.metric(self.state, "mirrorbus_journal_disk_full_total") or 0

    def test_full(self):
        # Nothing that retention gives up: that may be space again.
        self.start_on_small_disk((96 + 5 * TIMES) << 20, 'publish_buffer = "1MiB"')
        account = Account("disk full")
        # More than the relay lets wait: it must say so.
        load = self.submitter(rate=120, window=256, size=6000)
        tail = self.tail_at(self.socket("publish"), self.socket("serve"), "tail")
        noticed = 0.0
        for _ in range(TIMES):
            self.load(load, self.chance.randrange(20, 200))
            before = self.tried()
            began = time.monotonic()
            self.fill(self.chance.choice((0, 4096, 30_000, 100_000)))
            until("it says so in a metric", lambda b=before: self.tried() > b + 1)
            noticed = max(noticed, time.monotonic() - began)
            self.assertTrue(self.said("relayd", "nothing is acknowledged until there is space"))
            status, text = self.page("readyz")
            self.assertEqual(status, 503)
            self.assertIn("no space", text)
            self.assertEqual(self.page("healthz")[0], 200)
            stood, busy = load.newest(), load.busy
            until("senders are told busy", lambda b=busy: load.busy > b)
            # Over two more tries.
            until("it tries again", lambda n=self.tried(): self.tried() > n + 1)
            self.assertEqual(load.newest(), stood, "acknowledged on a full disk")
            if self.chance.random() < 0.3:
                self.running.send_signal(signal.SIGKILL)
                self.running.wait()
                os.unlink(self.disk / "filler")
                began = time.monotonic()
                self.running = self.start("bus-relayd", self.config, "relayd")
            else:
                os.unlink(self.disk / "filler")
                began = time.monotonic()
            until(lambda: f"it acknowledges again; {self.space()}", lambda s=stood: load.newest() > s, 30)
            until("its subscriber has it", lambda s=stood: caught_up(tail, s + 1), 30)
            account.recovered(time.monotonic() - began)
            account.runs += 1
            until("ready again", lambda: self.page("readyz")[0] == 200)
            self.assertIsNone(self.running.poll())
        acknowledged = self.finish(load, {"tail": tail})
        account.hold([(events_of(tail), tail.gaps)], acknowledged)
        _, events = HeldJournal(self.socket("serve")).read()
        self.assertEqual({n: seq for seq, n in events.items() if n}, acknowledged)
        self.assertFalse(self.said("tail", "equivocation"))
        account.more = f"noticed_within={noticed:.1f}s"
        account.close(self)


if __name__ == "__main__":
    main(sys.argv)
