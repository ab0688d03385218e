#!/usr/bin/python3
"""A mirror of one directory of a tree, under a path of its own: in place, and with snapshots."""
import random
import sys

from mirroring import Mirroring, RandomTree
from world import main


class Subtree(Mirroring):
    def follow(self, more):
        text = self.mirror_config.read_text()
        self.mirror_config.write_text(text + 'subtree = "pool/main"\n' + more)
        self.tree.mkdir(parents=True)
        (self.tree / "pool").mkdir()
        seed = random.randrange(1 << 30)
        part, rest = RandomTree(self.tree / "pool/main", 80, seed), RandomTree(self.tree / "dists", 80, seed + 1)
        whole, self.tree = self.tree, self.tree / "pool/main"
        self.up("origin")
        self.up("mirror")
        for step in range(4):
            number = self.publish()
            self.reaches(number)
            self.assertSame(f"in version {number}, seed {seed}")
            part.change()
            rest.change()
            if step == 2:
                self.running["mirror"].kill()
                self.running["mirror"].wait()
                self.up("mirror")
        said = self.control("mirror", "verify", tree="t")
        self.assertTrue(said["equal"], said)
        self.assertIn("filtered entries", self.control("mirror", "status")[0]["fidelity"])
        self.assertFalse(any(p.name == "dists" for p in (self.dir / "m").rglob("dists")))
        self.assertTrue((whole / "dists").is_dir())

    def test_in_place(self):
        self.follow("")

    def test_with_snapshots(self):
        self.follow('apply = "snapshot"\n')


if __name__ == "__main__":
    main(sys.argv)
