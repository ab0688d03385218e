#!/usr/bin/python3
"""The nasty tree: an origin and a mirror from its first version to its second and back."""
import os
import subprocess
import sys
import unittest

from mirroring import Mirroring
from mirroring_test import NOBODY, mirror_as_nobody
from nasty_tree import NastyTree, allocated, left_out
from world import main

SEED = int(os.environ.get("MIRRORBUS_SEED", "1"))


class Nasty(Mirroring):
    def setUp(self):
        super().setUp()
        self.tree.parent.mkdir()
        self.nasty = NastyTree(self.tree, SEED)
        self.nasty.first()
        self.kept = self.dir / "first"
        self.copy_tree(self.tree, self.kept)

    def copy_tree(self, one, other):
        subprocess.run(["rsync", "-aHAXS", "-@-1", "--delete", f"{one}/", f"{other}/"], check=True)

    def follow(self, check):
        self.up("origin")
        self.up("mirror")
        self.reaches(self.publish())
        check(f"at first, seed {SEED}")
        self.nasty.second()
        self.reaches(self.publish())
        check(f"in the second version, seed {SEED}")
        self.copy_tree(self.kept, self.tree)
        self.reaches(self.publish())
        check(f"and back, seed {SEED}")

    def verified(self):
        said = self.control("mirror", "verify", tree="t")
        self.assertTrue(said["equal"], said)

    @unittest.skipUnless(os.geteuid() == 0, "owners and devices are root's")
    def test_as_root(self):
        def check(when):
            self.assertSame(when)
            self.assertEqual(self.control("mirror", "status")[0]["fidelity"], "full")
            self.assertLess(allocated(self.copy), allocated(self.tree) + 500_000)
            self.verified()
        self.follow(check)

    @unittest.skipUnless(os.geteuid() == 0, "needs another user")
    def test_as_a_plain_user(self):
        self.rsync_options = ["--no-owner", "--no-group", "--no-devices", "--filter=-x trusted.*",
                              "--filter=-x security.*", "--exclude=/character", "--exclude=/block",
                              "--exclude=/far/character"]
        mirror_as_nobody(self)

        def check(when):
            self.assertSame(when)
            counts = left_out(self.tree, NOBODY)
            said = "without " + ", ".join(f"{what} of {count}" for what, count in counts.items() if count)
            self.assertEqual(self.control("mirror", "status")[0]["fidelity"], said)
            self.assertGreater(counts["xattrs"], 3)
            self.verified()
        self.follow(check)


if __name__ == "__main__":
    main(sys.argv)
