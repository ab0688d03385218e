#!/usr/bin/python3
"""An origin killed at every write barrier of an update, one after the other: before the pack is durable,
between the pack and the version, between the version and its event, between the event and the note that it
went out. strace delivers SIGKILL as the process enters the system call.

    crash_points_test.py bus-mirrord=PATH bus-mirror=PATH
"""
import collections
import os
import pathlib
import re
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from mirroring import Mirroring, RandomTree  # noqa: E402
from world import main, until  # noqa: E402

SEED = int(os.environ.get("MIRRORBUS_SEED", "20261121"))
# What makes something last, or gives it its name.
BARRIERS = "fsync,fdatasync,syncfs,rename"


class Traced:
    """strace on one thread of a process, or on all there are."""

    def __init__(self, threads, log, *options):
        self.log = log
        pids = [word for thread in threads for word in ("-p", str(thread))]
        self.process = subprocess.Popen(
            ["strace", "-qq", "-o", log, "-e", f"trace={BARRIERS}", *options, *pids],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        until("strace is attached",
              lambda: self.process.poll() or all(self.tracer(t) != "0" for t in threads))
        if self.process.poll():
            why = self.process.stderr.read().strip()
            if "ptrace" in why:
                raise unittest.SkipTest(f"strace may not attach here: {why}")
            raise AssertionError(why)

    @staticmethod
    def tracer(thread):
        status = pathlib.Path(f"/proc/{thread}/status")
        return re.search(r"TracerPid:\s+(\d+)", status.read_text())[1] if status.exists() else "gone"

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30)


class CrashPoints(Mirroring):
    def setUp(self):
        super().setUp()
        print(f"seed {SEED}", flush=True)
        self.content = RandomTree(self.tree, 300, SEED)
        self.up("origin")
        self.up("mirror")
        self.reaches(self.publish())

    def threads(self):
        """Of the origin, in the order they were made: the same in every run once it is at rest."""
        until("it is ready", lambda: self.version("origin"))
        return sorted(int(t) for t in os.listdir(f"/proc/{self.running['origin'].pid}/task"))

    def barriers(self):
        """How many each thread passes in one update: {(its place in threads(), system call): count}."""
        threads = self.threads()
        traced = Traced(threads, self.dir / "strace.log")
        self.content.change()
        self.reaches(self.publish())
        traced.end()
        passed = collections.Counter()
        for line in (self.dir / "strace.log").read_text().splitlines():
            # strace also shows calls that it has no name for.
            found = re.match(r"(\d+) +(\w+)\(", line)
            if found and found[2] in BARRIERS.split(","):
                passed[threads.index(int(found[1])), found[2]] += 1
        return passed

    def crash(self, place, call, number):
        """Killed as that thread enters this call for the number-th time. What `publish` said, if it
        said anything."""
        origin = self.running["origin"]
        self.content.change()
        log = self.dir / "strace.log"
        traced = Traced([self.threads()[place]], log, "-e", f"inject={call}:signal=KILL:when={number}")
        said = self.bus_mirror("origin", "publish", "t")
        if origin.poll() is None and not said:
            until("it is dead", lambda: origin.poll() is not None)
        traced.end()
        return said, origin.poll() == -signal.SIGKILL

    def test_every_barrier_of_an_update(self):
        points = self.barriers()
        self.assertGreaterEqual(sum(points.values()), 6, points)
        self.assertGreaterEqual(len({place for place, _ in points}), 2, "the journal has a thread of its own")
        for (place, call), count in sorted(points.items()):
            for number in range(1, count + 1):
                before = self.version("origin")
                said, dead = self.crash(place, call, number)
                when = f"seed {SEED}: thread {place} at {call} {number} of {count}"
                self.assertTrue(dead, f"{when}: it was not reached")
                self.up("origin")
                now = until(f"the origin is back ({when})", lambda: self.version("origin"))
                self.assertGreaterEqual(now, int(said or before), when)
                version = self.publish()
                self.assertLessEqual(version, before + 2, f"{when}: a number was skipped")
                self.reaches(version)
                self.assertSame(when)
        print(f"killed at each of {sum(points.values())} barriers: {dict(points)}", flush=True)


if __name__ == "__main__":
    main(sys.argv)
