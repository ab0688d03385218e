#!/usr/bin/python3
"""The disk below a tree fails under a real origin or mirror and comes back, without a restart: full, over quota,
read-only, unmounted. While it does nothing is committed, the daemon says why, and what is there is not touched; then
it goes on by itself within 30 s.

MIRRORBUS_ROUNDS: how often each (1). MIRRORBUS_SEED: of the trees and what is done to them.
"""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest

import namespaces
from disk_image import DiskImage
from faulty_trees import FaultyTrees, TreeAccount, main, setting, until

ROUNDS = setting("ROUNDS", 1)
AGAIN_S = 30
NONE = namespaces.enter("mount")


class TreeDisks(FaultyTrees):
    @classmethod
    def setUpClass(cls):
        if NONE:
            raise unittest.SkipTest(NONE)
        if os.geteuid() != 0 or not pathlib.Path("/dev/loop-control").exists():
            raise unittest.SkipTest("no loop devices here")
        super().setUpClass()

    def disk(self, path, size=48 << 20, **settings):
        try:
            disk = DiskImage(path, size, **settings)
        except RuntimeError as error:
            raise unittest.SkipTest(f"no disk of our own: {error}") from error
        self.addCleanup(disk.close)
        return disk

    def move_mirror(self, disk, tree="tree"):
        self.edit_config("mirror", f'"{self.dir}/m/tree"', f'"{disk.path / tree}"')
        self.copy = disk.path / tree

    def change(self):
        """Enough that it needs space."""
        self.content.change()
        for i in range(4):
            (self.tree / f"large{i}").write_bytes(self.chance.randbytes(300_000))

    def failing(self, version, words, tries=2, state="failed"):
        """It has tried so often, says why, and has not committed `version`."""
        self.until_status(
            f"{state} for {words}",
            lambda s: s["state"] == state and re.search(words, s["last_error"]), timeout=90,
        )
        if state == "failed":
            self.tries(tries)
        self.assertLess(self.version("mirror"), version)

    def tries(self, count):
        before = self.metric("mirror", "mirrorbus_tree_sync_failures_total")
        until("it tries again",
              lambda: self.metric("mirror", "mirrorbus_tree_sync_failures_total") >= before + count, 120)

    def rounds(self, name, break_it, mend_it, words, **how):
        """A version is published while the mirror's disk is broken, and another one, and comes in when it is not."""
        account = TreeAccount(name)
        for turn in range(ROUNDS):
            break_it()
            self.change()
            version = self.publish()
            self.failing(version, words, **how)
            self.change()
            version = self.publish()
            self.failing(version, words, **how)
            mend_it()
            mended = time.monotonic()
            self.until_at(account, version, mended)
            self.compare(account, f"{name}, turn {turn}")
            account.runs, account.versions = account.runs + 1, account.versions + 2
        self.assertIsNone(self.running["mirror"].poll())
        self.assertLessEqual(account.worst, AGAIN_S)
        account.close(self)

    def test_mirror_full(self):
        disk = self.disk(self.dir / "disk")
        self.move_mirror(disk)
        self.both()
        # So often that the time between two tries is as long as it gets.
        self.rounds("mirror's disk full", lambda: disk.fill(self.chance.choice((0, 50_000, 400_000))),
                    disk.empty, "No space left|bytes are needed", tries=2 if ROUNDS == 1 else 3)
        waits = [int(s) for s in re.findall(r"trying again in (\d+) s", (self.dir / "mirror.log").read_text())]
        self.assertLessEqual(max(waits), 15)
        self.assertGreaterEqual(len(waits), 5)

    def test_mirror_over_quota(self):
        """Of root, too, who may not ignore it then. Where the kernel has no quotas its calls fail as if."""
        self.daemon_of = {"mirror": self.without("sys_resource", "bus-mirrord")}
        try:
            disk = DiskImage(self.dir / "quota", 48 << 20, options="usrquota", features="quota")
        except RuntimeError:
            return self.over_injected_quota()
        self.addCleanup(disk.close)
        self.move_mirror(disk)
        self.both()

        def used():
            return sum(p.lstat().st_blocks for p in disk.path.rglob("*")) // 2

        self.rounds("mirror over quota", lambda: disk.quota(used() + 100), lambda: disk.quota(0),
                    "Disk quota exceeded")

    def over_injected_quota(self):
        if not shutil.which("strace"):
            self.skipTest("neither quotas nor strace here")
        self.daemon_of = {}
        self.both()
        tracing = []

        def exceed():
            # What makes names and keeps contents; databases and the journal do without these.
            tracing.append(subprocess.Popen(
                ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=syncfs,renameat2,linkat,mkdirat",
                 "-e", "inject=syncfs,renameat2,linkat,mkdirat:error=EDQUOT",
                 "-p", str(self.running["mirror"].pid)], stderr=subprocess.PIPE, text=True))
            until("strace is attached", lambda: tracing[-1].poll() is not None or self.traced("mirror"))
            if tracing[-1].poll() is not None:
                self.skipTest(f"no quotas, and strace may not attach: {tracing[-1].stderr.read()}")

        def allow():
            tracing[-1].send_signal(signal.SIGINT)
            tracing[-1].communicate(timeout=30)

        self.rounds("mirror over quota (injected)", exceed, allow, "Disk quota exceeded")

    def traced(self, name):
        """All of its threads are."""
        tasks = pathlib.Path(f"/proc/{self.running[name].pid}/task")
        return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks.iterdir())

    def without(self, capability, program):
        wrapper = self.dir / f"without-{capability}"
        wrapper.write_text(f'#!/bin/sh\nexec setpriv --bounding-set=-{capability} '
                           f'{self.programs[program]} "$@"\n')
        wrapper.chmod(0o755)
        return str(wrapper)

    def test_mirror_read_only(self):
        disk = self.disk(self.dir / "disk")
        self.move_mirror(disk)
        self.both()
        self.rounds("mirror's disk read-only", lambda: disk.read_only(True), lambda: disk.read_only(False),
                    "Read-only file system")

    def test_mirror_unmounted(self):
        """Below the mount, and the mount itself: what is under it stays empty."""
        for tree in ("tree", ""):
            with self.subTest(tree=tree):
                self.unmounted(tree)

    def unmounted(self, tree):
        disk = self.disk(self.dir / f"disk{tree}")
        self.move_mirror(disk, tree)
        self.rsync_options = [] if tree else ["--exclude=/.mirrorbus"]  # it has to work inside then
        self.both()

        def mount():
            self.assertEqual(os.listdir(disk.path), [], "the empty mount point was filled")
            disk.mount()

        self.away("mirror's disk unmounted" + ("" if tree else ", the tree is the mount"),
                  disk.unmount, mount, "No such file")
        self.end(self.running.pop("mirror"))
        # The next one begins anew.
        self.edit_config("mirror", f'"{self.copy}"', f'"{self.dir}/m/tree"')
        for left in (self.dir / "mirror").glob("tree-t.*"):
            left.unlink()

    def away(self, name, take, give, words):
        """Its directory is taken, and given back."""
        account = TreeAccount(name)
        for turn in range(ROUNDS):
            take()
            self.change()
            version = self.publish()
            self.until_status("it says so", lambda s: s["state"] in ("failed", "refused")
                              and re.search(words, s["last_error"]))
            self.assertLess(self.version("mirror"), version)
            self.change()
            version = self.publish()
            self.until_status("it knows of it", lambda s, v=version: s["head_version"] == v
                              and s["state"] in ("failed", "refused"))
            give()
            given = time.monotonic()
            self.until_at(account, version, given)
            self.compare(account, f"{name}, turn {turn}")
            account.runs, account.versions = account.runs + 1, account.versions + 2
        self.assertLessEqual(account.worst, AGAIN_S)
        account.close(self)

    def test_mirror_replaced(self):
        """Something else is mounted over the tree, or stands in its place: that is not touched, and nobody has to
        accept anything when it has gone."""
        self.both()
        other = self.dir / "other"
        other.mkdir()
        (other / "precious").write_text("not to be touched")
        before = other.stat()

        def untouched():
            self.assertEqual((sorted(os.listdir(other)), other.stat().st_mtime_ns),
                             (["precious"], before.st_mtime_ns))

        def uncover():
            untouched()
            namespaces.run("umount", str(self.copy))

        self.away("another directory mounted over the tree",
                  lambda: namespaces.run("mount", "--bind", str(other), str(self.copy)), uncover,
                  "not the directory that was mirrored into")
        aside = self.copy.with_name("aside")
        self.away("the tree moved away", lambda: self.copy.rename(aside), lambda: aside.rename(self.copy),
                  "has vanished")

    def test_mirror_state_full(self):
        """What it keeps beside the tree has no space."""
        disk = self.disk(self.dir / "state", 96 << 20)
        self.edit_config("mirror", f'state = "{self.dir}/mirror"', f'state = "{disk.path}/mirror"')
        (self.dir / "mirror").symlink_to(disk.path / "mirror")
        self.both()
        self.rounds("mirror's state directory full", disk.fill, disk.empty, "full|No space left")

    def test_max_delete(self):
        self.edit_config("mirror", "max_delete = 1000000", "max_delete = 100")
        self.both()
        account = TreeAccount("more deletions than max_delete")
        for turn in range(ROUNDS):
            victims = self.chance.sample([f for f in self.content.files if not f.is_symlink()], 150)
            for file in victims:
                file.unlink()
                self.content.files.remove(file)
            before = sorted(self.copy.rglob("*"))
            version = self.publish()
            self.failing(version, "max_delete", state="refused")
            (self.tree / f"more{turn}").write_text("more")
            version = self.publish()
            self.until_status("the next one is refused, too",
                              lambda s, v=version: s["state"] == "refused" and s["head_version"] == v)
            self.failing(version, "max_delete", state="refused")
            self.assertEqual(sorted(self.copy.rglob("*")), before, "half of it was done")
            accepted = time.monotonic()
            self.assertIsNotNone(self.bus_mirror("mirror", "accept", "t"), self.last_said)
            self.until_at(account, version, accepted)
            self.compare(account, f"max_delete, turn {turn}")
            account.runs, account.versions = account.runs + 1, account.versions + 2
            for _ in victims:
                self.content.add_file()
            self.reaches(self.publish())
        account.close(self)

    def test_origin_full(self):
        """Where it keeps contents and packs. Nothing is published; then everything."""
        disk = self.disk(self.dir / "disk")
        self.edit_config("origin", f'"{self.dir}/a/tree"', f'"{disk.path}/tree"')
        self.edit_config("origin", 'publish = "manual"', 'settle = "200ms"\nstore = "copy"')
        self.tree = disk.path / "tree"
        self.fill()
        self.up("origin")
        self.up("mirror")
        self.reaches(until("the first version", lambda: self.version("origin")))
        account = TreeAccount("origin's disk full")
        for turn in range(ROUNDS):
            before = self.version("origin")
            large, size = self.tree / f"large{turn}", 1_500_000
            # Room for this, and too little for a copy of it.
            disk.fill(size + self.chance.choice((20_000, 60_000, 500_000)))
            large.write_bytes(self.chance.randbytes(size))
            self.until_status("it says so", lambda s: s["state"] == "failed"
                              and re.search("No space left|full", s["last_error"]), "origin", 90)
            self.assertEqual(self.version("origin"), before)
            disk.empty()
            mended = time.monotonic()
            version = until("a version of it", lambda b=before: (v := self.version("origin")) > b and v, 120)
            self.until_at(account, version, mended)
            version = self.publish()
            self.reaches(version)
            self.compare(account, f"origin full, turn {turn}")
            large.unlink()
            account.runs, account.versions = account.runs + 1, account.versions + 1
        self.assertLessEqual(account.worst, AGAIN_S)
        account.close(self)


if __name__ == "__main__":
    main(sys.argv)
