#!/usr/bin/python3
"""A mirror with snapshots: what its link shows is one version, whole, at any time, and which one an operator says."""
import os
import random
import sys
import threading

from mirroring import Mirroring, RandomTree
from world import main, until

FILES = 40
PUBLISHES = 50


def read_whole(link):
    """What every file says of the directory that the link leads to now."""
    root = os.open(link, os.O_RDONLY | os.O_DIRECTORY)
    said = {}
    try:
        for path, _, names, fd in os.fwalk(dir_fd=root):
            for name in names:
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
                with open(file, encoding="utf-8") as content:
                    said[os.path.join(path, name)] = content.read()
    finally:
        os.close(root)
    return said


class Reader(threading.Thread):
    """Reads again and again; `mixed` is what it should never have seen."""

    def __init__(self, link):
        super().__init__()
        self.link, self.stop, self.mixed, self.seen, self.reads = link, False, [], set(), 0

    def run(self):
        while not self.stop and not self.mixed:
            try:
                said = read_whole(self.link)
            except OSError as error:
                self.mixed.append(str(error))
                return
            self.reads += 1
            self.seen.update(said.values())
            if len(set(said.values())) != 1 or len(said) != FILES:
                self.mixed.append(f"{len(said)} files of versions {set(said.values())}")


class Snapshots(Mirroring):
    def setUp(self):
        super().setUp()
        text = self.mirror_config.read_text()
        self.mirror_config.write_text(text + 'apply = "snapshot"\nretain = { versions = 1000 }\n')

    def status(self):
        trees = self.control("mirror", "status")
        return trees[0] if trees else None

    def write(self, version):
        for number in range(FILES):
            (self.tree / f"d{number % 4}").mkdir(exist_ok=True)
            beside = self.tree / f"d{number % 4}/f{number}.new"
            beside.write_text(str(version))
            beside.replace(beside.with_suffix(""))

    def test_a_reader_sees_no_mixture(self):
        self.tree.mkdir(parents=True)
        self.write(0)
        self.up("origin")
        self.up("mirror")
        self.reaches(self.publish())
        self.assertTrue(self.copy.is_symlink())
        readers = [Reader(self.copy) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            for version in range(1, PUBLISHES + 1):
                self.write(version)
                number = self.publish()
                if version % 5 == 0:
                    self.reaches(number)
            self.reaches(number)
        finally:
            for reader in readers:
                reader.stop = True
            for reader in readers:
                reader.join()
        for reader in readers:
            self.assertEqual(reader.mixed, [], f"after {reader.reads} reads")
            self.assertGreater(len(reader.seen), 5)
        print(f"{sum(r.reads for r in readers)} reads, of {len(readers[0].seen)} versions", file=sys.stderr)
        self.assertSame("after the last one")

    def test_random_versions_and_a_rollback(self):
        tree = RandomTree(self.tree, 200, random.randrange(1 << 30))
        self.up("origin")
        self.up("mirror")
        for _ in range(3):
            number = self.publish()
            self.reaches(number)
            self.assertSame(f"at version {number}")
            tree.change()
        shown = {each["number"]: each.get("snapshot") for each in self.control("mirror", "versions", tree="t")}
        self.assertEqual(shown, {number - 2: "held", number - 1: "held", number: "shown"})
        self.assertTrue(self.control("mirror", "verify", tree="t")["equal"])

        self.assertIsNone(self.bus_mirror("mirror", "rollback", "t", "999"))
        self.assertIn("is not held here", self.last_said)
        self.assertEqual(self.status()["state"], "current")
        self.assertEqual(self.bus_mirror("mirror", "rollback", "t", str(number - 2)), str(number - 2))
        self.assertEqual(os.path.basename(os.readlink(self.copy)), str(number - 2))
        newer = self.publish()
        until("the newer version is heard of", lambda: self.status()["head_version"] == newer)
        said = self.status()
        self.assertEqual((said["state"], said["version"]), ("paused", number - 2))
        self.assertIn("until resume", said["last_error"])
        self.assertGreater(said["lag_seconds"], 0)

        # Nor does a restart forget it.
        self.running["mirror"].terminate()
        self.running["mirror"].wait()
        self.up("mirror")
        until("it is there again", lambda: (self.status() or {}).get("state") == "paused")
        self.assertEqual(self.status()["version"], number - 2)
        self.assertEqual(os.path.basename(os.readlink(self.copy)), str(number - 2))

        self.assertIsNotNone(self.bus_mirror("mirror", "resume", "t"))
        self.reaches(newer)
        until("it is shown", lambda: self.status()["version"] == newer)
        self.assertSame("after resume")

    def test_an_older_version_is_repaired(self):
        self.tree.mkdir(parents=True)
        self.write("old")
        self.up("origin")
        self.up("mirror")
        older = self.publish()
        self.reaches(older)
        self.write("new")
        self.reaches(self.publish())
        rotten = self.copy.resolve().with_name(str(older)) / "d1/f1"
        with open(rotten, "r+") as file:
            file.write("0ld")
        found = self.control("mirror", "verify", tree="t")
        self.assertEqual((found["equal"], found["rotten"]), (False, 1))
        self.assertEqual(found["paths"][0]["path"], str(rotten))
        self.assertTrue(self.control("mirror", "verify", tree="t", repair=True)["repaired"])
        self.assertTrue(self.control("mirror", "verify", tree="t")["equal"])
        self.assertEqual(set(read_whole(rotten.parent.parent).values()), {"old"})

    def test_a_directory_is_not_replaced(self):
        self.tree.mkdir(parents=True)
        self.write(0)
        self.copy.mkdir()
        (self.copy / "mine").write_text("mine")
        self.up("origin")
        self.up("mirror")
        self.publish()
        until("it is refused", lambda: (self.status() or {}).get("state") == "refused")
        self.assertIn("is no symbolic link", self.status()["last_error"])
        self.assertEqual((self.copy / "mine").read_text(), "mine")


if __name__ == "__main__":
    main(sys.argv)
