#!/usr/bin/python3
"""Sixteen mirrors of one origin: few pull from it, the others are sent to those."""
import os
import sys

from sharing_test import Sharing
from world import main

MIRRORS = 16


class Many(Sharing):
    def test_the_origin_sends_a_version_few_times(self):
        tree = self.dir / "a/tree"
        tree.mkdir(parents=True)
        (tree / "file").write_text("one")
        self.up("origin", self.origin())
        first = self.publish()
        names = [f"m{number}" for number in range(MIRRORS)]
        for name in names:  # one after the other: the machine may have few processors
            self.up(name, self.mirror(name, ["origin"]))
            self.reaches(name, first)

        for number in range(40):
            (tree / f"random{number}").write_bytes(os.urandom(100_000))
        before = self.metric("origin", "mirrorbus_content_sent_bytes_total")
        version = self.publish()
        for name in names:
            self.reaches(name, version, 120)
        for name in (names[0], names[-1]):
            self.assertSame(name, "at the second version")
        each = sorted(self.status(name)["bytes_received"] for name in names)
        sent = self.metric("origin", "mirrorbus_content_sent_bytes_total") - before
        self.assertGreater(each[0], 4_000_000)
        print(f"each mirror received {each[0]} to {each[-1]} bytes, the origin sent {sent:.0f}: "
              f"{sent / 4_000_000:.1f} times the version")
        self.assertLess(sent, 4.5 * 4_000_000)


if __name__ == "__main__":
    main(sys.argv)
