#!/usr/bin/python3
"""Disks that change what they hold: seeded bits are flipped, times put back, in a mirror's tree, in packs, and in what an
origin keeps. `verify` finds each; `verify --repair` mends it from whoever has it; what is damaged is never taken for
good by those who fetch it.

MIRRORBUS_ROUNDS (1), MIRRORBUS_FLIPS: in a mirror's tree (40). MIRRORBUS_SEED.
"""
import hashlib
import os
import sys
import time

import namespaces
from disk_image import DiskImage
from faulty_trees import ManyMirrors, TreeAccount, free_ports, main, setting

NONE = namespaces.enter("mount")
ROUNDS, FLIPS = setting("ROUNDS", 1), setting("FLIPS", 40)


class Rot(ManyMirrors):
    entries = 300

    def flip(self, path):
        """One bit, somewhere, in place; the times that can be set are as before."""
        before = path.lstat()
        with open(path, "r+b") as file:
            at = self.chance.randrange(before.st_size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << self.chance.randrange(8)]))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def files(self, root):
        """With something in them, each inode once."""
        found = {p.lstat().st_ino: p for p in sorted(root.rglob("*"))
                 if p.is_file() and not p.is_symlink() and p.lstat().st_size > 0}
        return sorted(found.values())

    def begin_with_server(self, path=None):
        """Mirror m0 serves, too, and is at the newest version. `path`: of its tree."""
        self.begin()
        self.port = free_ports(1)[0]
        self.mirror("m0", more=f'[content]\nlisten = "127.0.0.1:{self.port}"', path=path)
        self.whole("m0", self.newest)
        self.served = f"tcp://127.0.0.1:{self.port}"

    def test_live_tree(self):
        account = TreeAccount("bits flipped in a mirror's tree")
        self.begin_with_server()
        found = 0
        for turn in range(ROUNDS):
            victims = self.chance.sample(self.files(self.copies["m0"]), FLIPS)
            for file in victims:
                self.flip(file)
            said = self.ask("m0/state", "verify", tree="t")["ok"]
            self.assertFalse(said["equal"])
            names = {difference["path"] for difference in said["paths"]}
            missed = [str(f.relative_to(self.copies["m0"])) for f in victims
                      if not names & self.names_of(f)]
            self.assertEqual(missed, [], f"of {said['differences']} differences")
            found += len(victims)
            began = time.monotonic()
            said = self.ask("m0/state", "verify", tree="t", repair=True)["ok"]
            self.assertTrue(said["repaired"], said)
            account.recovered(time.monotonic() - began)
            self.compare_with(account, "m0", f"repaired, turn {turn}")
            self.assertTrue(self.ask("m0/state", "verify", tree="t")["ok"]["equal"])
            account.runs += 1
        account.versions = 1
        account.more = f"flips={found}, all found and mended"
        account.close(self)

    def names_of(self, file):
        """All that this inode is called in its tree."""
        root, inode = self.copies["m0"], file.lstat().st_ino
        return {str(p.relative_to(root)) for p in root.rglob("*") if p.lstat().st_ino == inode}

    def test_below_the_file_system(self):
        """Where not even times tell: on the disk itself. Another mirror fetches from there, and is not taken in."""
        if NONE or os.geteuid() != 0:
            self.skipTest(NONE or "no loop devices here")
        account = TreeAccount("bits flipped on a mirror's disk")
        try:
            disk = DiskImage(self.dir / "disk", 32 << 20)
        except RuntimeError as error:
            self.skipTest(f"no disk of our own: {error}")
        self.addCleanup(disk.close)
        self.begin_with_server(disk.path / "tree")
        for turn in range(ROUNDS):
            large = [p for p in self.files(self.copies["m0"]) if p.lstat().st_size >= 300]
            victims = self.chance.sample(large, 2)  # a third sets it aside
            for file in victims:
                disk.rot(file, self.chance)
            name = f"m{turn + 1}"
            self.mirror(name, [self.served, self.direct["content"]])
            began = time.monotonic()
            self.whole(name, self.newest)
            account.recovered(time.monotonic() - began)
            self.compare_with(account, name, f"turn {turn}")
            self.assertGreaterEqual(self.refused(name), 2)
            names = {d["path"] for d in self.ask("m0/state", "verify", tree="t")["ok"]["paths"]}
            for file in victims:
                self.assertTrue(names & self.names_of(file), f"{file} is not among {names}")
            self.assertTrue(self.ask("m0/state", "verify", tree="t", repair=True)["ok"]["repaired"])
            self.compare_with(account, "m0", f"repaired, turn {turn}")
            account.runs, account.versions = account.runs + 1, account.versions + 1
        account.close(self)

    def test_rotten_mirror_is_not_believed(self):
        """A mirror whose tree has rotted serves another one, and the origin is second: each bad one comes from
        there."""
        account = TreeAccount("a mirror fetches from one that has rotted")
        self.begin_with_server()
        for turn in range(ROUNDS):
            victims = self.chance.sample(self.files(self.copies["m0"]), 2)  # a third sets it aside
            for file in victims:
                self.flip(file)
            name = f"m{turn + 1}"
            self.mirror(name, [self.served, self.direct["content"]])
            began = time.monotonic()
            self.whole(name, self.newest)
            account.recovered(time.monotonic() - began)
            self.compare_with(account, name, f"turn {turn}")
            account.runs, account.versions = account.runs + 1, account.versions + 1
            sources = {s["url"]: s for s in self.status(name)["sources"]}
            rotten = sources[self.served.replace("tcp", "http")]
            # It sees that its files are not what they were, and does not hand them out.
            account.more = f"bad items sent={rotten['bad_items']}"
            self.assertTrue(self.ask("m0/state", "verify", tree="t", repair=True)["ok"]["repaired"])
        account.close(self)

    def packs(self, work):
        return sorted((p for p in (work / "packs").iterdir() if p.is_file()), key=lambda p: p.stat().st_mtime_ns)

    def behind(self, name):
        """A version is published while this mirror is paused."""
        self.ask(f"{name}/state", "pause", tree="t")
        self.content.change(0.3)
        # More than an event carries: the pack is a file.
        (self.content.path / "of-a-size").write_bytes(self.content.random.randbytes(60_000))
        self.newest = self.publish()

    def resumed(self, account, name, began):
        self.ask(f"{name}/state", "resume", tree="t")
        self.whole(name, self.newest)
        account.recovered(time.monotonic() - began)
        self.compare_with(account, name, "it went by other ways")
        account.runs, account.versions = account.runs + 1, account.versions + 1

    def refused(self, name):
        """Things that came and were no good."""
        return self.metric(f"{name}/state", "mirrorbus_tree_bad_items_total")

    def test_pack_of_a_mirror(self):
        account = TreeAccount("a bit flipped in a mirror's pack")
        self.begin_with_server()
        self.mirror("m1", [self.served, self.direct["content"]])
        self.whole("m1", self.newest)
        bad = 0
        for _ in range(ROUNDS):
            before = self.refused("m1")
            self.behind("m1")
            self.whole("m0", self.newest)
            self.flip(self.packs(self.dir / "m0/.mirrorbus-t")[-1])
            self.resumed(account, "m1", time.monotonic())
            bad += self.refused("m1") - before
        account.more = f"refused={bad:.0f}"
        self.assertGreaterEqual(bad, min(ROUNDS, 3))  # then that mirror is left alone
        account.close(self)

    def test_pack_of_the_origin(self):
        account = TreeAccount("a bit flipped in the origin's pack")
        self.begin()
        self.mirror("m1")
        self.whole("m1", self.newest)
        bad = 0
        for _ in range(ROUNDS):
            before = self.refused("m1")
            self.behind("m1")
            # What is small travels in the event.
            self.flip(self.packs(self.dir / "a/.mirrorbus-t")[-1])
            self.resumed(account, "m1", time.monotonic())
            bad += self.refused("m1") - before
        account.more = f"refused={bad:.0f}"
        self.assertGreaterEqual(bad, min(ROUNDS, 3))
        self.assertLess(account.worst, 20, "a pack is only one way")
        account.close(self)

    def verified(self, name, repair=False):
        """(what is named, whether it was mended)"""
        said = self.ask(name, "verify", tree="t", repair=repair)["ok"]
        self.assertEqual(said["differences"], len(said["paths"]))
        self.assertEqual(said["equal"], not said["paths"])
        return {d["path"]: d["what"] for d in said["paths"]}, said["repaired"]

    def test_packs_are_verified(self):
        account = TreeAccount("a bit flipped in a kept pack, verified")
        self.begin_with_server()
        for turn in range(ROUNDS):
            self.behind("m0")
            self.resumed(account, "m0", time.monotonic())
            for name, work in (("m0/state", "m0/.mirrorbus-t"), ("origin", "a/.mirrorbus-t")):
                self.assertEqual(self.verified(name), ({}, False))
                pack = self.packs(self.dir / work)[-1]
                self.flip(pack)
                named, _ = self.verified(name)
                self.assertEqual(list(named), [str(pack)])
                self.assertIn("is not what its hash says", named[str(pack)])
                if name == "m0/state":
                    self.assertTrue(self.verified(name, repair=True)[1])
                    self.assertEqual(hashlib.sha256(pack.read_bytes()).hexdigest(), pack.name, f"turn {turn}")
                    self.flip(pack)  # the origin has it to the end of this turn
                    self.assertTrue(self.verified(name, repair=True)[1])
            self.assertTrue(self.verified("origin", repair=True)[1])
            self.assertFalse(pack.exists())
            self.assertEqual(self.verified("origin"), ({}, False))
        account.close(self)

    def test_store_of_the_origin_is_verified(self):
        account = TreeAccount("a bit flipped in an origin's copies, verified")
        self.edit_config("origin", 'role = "origin"', 'role = "origin"\nstore = "copy"')
        self.begin_with_server()
        for _ in range(ROUNDS):
            self.assertEqual(self.verified("origin"), ({}, False))
            objects = sorted(p for p in (self.dir / "a/.mirrorbus-t/objects").rglob("*")
                             if len(p.name) == 64 and p.stat().st_size > 0)
            victims = self.chance.sample(objects, 3)
            for victim in victims:
                self.flip(victim)
            named, _ = self.verified("origin")
            self.assertEqual(len(named), len(victims), named)
            for what in named.values():
                self.assertIn("what is kept of its content is not what its hash says", what)
            self.assertTrue(self.verified("origin", repair=True)[1])
            self.assertEqual(self.verified("origin"), ({}, False))
            for victim in victims:
                self.assertEqual(hashlib.sha256(victim.read_bytes()).hexdigest(), victim.name)
            account.runs += 1
        account.close(self)

    def test_object_of_the_origin(self):
        """The origin's own file and copy have both rotted; a mirror has it right."""
        account = TreeAccount("a bit flipped in what the origin keeps")
        self.begin_with_server()
        for turn in range(ROUNDS):
            victims = self.chance.sample(self.files(self.tree), 2)
            for file in victims:
                self.flip(file)  # the store has it by link
            name = f"m{turn + 1}"
            self.mirror(name, [self.direct["content"], self.served])
            began = time.monotonic()
            self.whole(name, self.newest)
            account.recovered(time.monotonic() - began)
            self.tree, kept = self.copies["m0"], self.tree  # it has what was signed
            self.compare_with(account, name, f"turn {turn}")
            self.tree = kept
            account.runs, account.versions = account.runs + 1, account.versions + 1
            # It hands out a content that it hashed itself a moment ago by size and time; all others it finds changed.
            self.assertLessEqual(self.refused(name), 2)
            # An origin takes what is there for meant: the next version has it.
            self.newest = self.publish()
            self.whole("m0", self.newest)
            self.compare_with(account, "m0", f"turn {turn}, published")
        account.close(self)


if __name__ == "__main__":
    main(sys.argv)
