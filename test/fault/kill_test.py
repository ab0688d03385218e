#!/usr/bin/python3
"""kill -9 of real daemons at random moments of an update. What was acknowledged stays, what the mirror
holds is a version once it says so, and no state needs a hand.

MIRRORBUS_KILLS: how often each is killed (20). MIRRORBUS_SEED: of the tree and the moments.
MIRRORBUS_KILL_TREES=FIRST:SECOND: two unpacked trees instead of a random one of 5,000 entries.
"""
import os
import pathlib
import random
import signal
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from mirroring import Mirroring, RandomTree, TwoTrees  # noqa: E402
from world import main, until  # noqa: E402

KILLS = int(os.environ.get("MIRRORBUS_KILLS", "20"))
SEED = int(os.environ.get("MIRRORBUS_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
TREES = os.environ.get("MIRRORBUS_KILL_TREES")


class Kill(Mirroring):
    def setUp(self):
        super().setUp()
        print(f"seed {SEED}", flush=True)
        self.random = random.Random(SEED)
        self.content = (
            TwoTrees(self.tree, *TREES.split(":")) if TREES else RandomTree(self.tree, 5000, SEED)
        )
        self.up("origin")
        self.up("mirror")
        self.reaches(self.publish())
        self.assertSame("after the first sync")

    def undisturbed(self):
        """How long an update takes from `publish` to the mirror's commit."""
        self.content.change()
        start = time.monotonic()
        self.reaches(self.publish())
        return time.monotonic() - start

    def kill_during_update(self, victim, after):
        """`after` seconds into an update. The version acknowledged before that, if any."""
        acknowledged = []
        publishing = threading.Thread(
            target=lambda: acknowledged.append(self.bus_mirror("origin", "publish", "t")), daemon=True
        )
        publishing.start()
        time.sleep(after)  # the moment
        self.running[victim].send_signal(signal.SIGKILL)
        self.running[victim].wait()
        publishing.join(180)
        return int(acknowledged[0]) if acknowledged and acknowledged[0] else 0

    def rounds(self, victim):
        took = max(self.undisturbed() for _ in range(2))
        acknowledged_by_killed = cut_off = 0
        committed = self.version("mirror")
        for turn in range(KILLS):
            self.content.change()
            moment = self.random.uniform(0, took * 1.2)
            acknowledged = self.kill_during_update(victim, moment)
            self.up(victim)
            when = f"seed {SEED}, turn {turn}, {victim} killed after {moment:.3f} s"
            until(f"{victim} answers ({when})", lambda: self.version(victim) is not None)
            if victim == "mirror":
                now = until("the mirror is open", lambda: self.version("mirror"))
                self.assertGreaterEqual(now, committed, when)
            version = self.publish()
            self.assertGreaterEqual(version, acknowledged, when)
            acknowledged_by_killed += acknowledged > 0
            cut_off += acknowledged == 0
            self.reaches(version)
            committed = self.version("mirror")
            self.assertEqual(committed, version, when)
            self.assertSame(when)
        print(f"{victim}: {KILLS} kills within {took * 1.2:.2f} s, {cut_off} before `publish` was answered",
              flush=True)

    def test_origin(self):
        self.rounds("origin")

    def test_mirror(self):
        self.rounds("mirror")


if __name__ == "__main__":
    main(sys.argv)
