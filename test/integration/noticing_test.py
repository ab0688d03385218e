#!/usr/bin/python3
"""What an origin notices by itself, in each way of watching, and what it makes of a root that goes away.

    noticing_test.py bus-mirrord=PATH bus-mirror=PATH
"""
import mmap
import os
import shutil
import subprocess
import sys

from mirroring import MIRROR, Mirroring
from world import main, until

ORIGIN = """
[content]
listen = "127.0.0.1:0"
[[tree]]
name = "t"
path = "{dir}/a/tree"
role = "origin"
settle = "50ms"
watch = "{watch}"
"""


class Noticing(Mirroring):
    def watched(self, watch):
        self.config("origin", ORIGIN.format(dir=self.dir, watch=watch))
        self.config("mirror", MIRROR.format(dir=self.dir))
        self.tree.mkdir(parents=True, exist_ok=True)

    def grows(self, beyond, what):
        """The version that came by itself."""
        return until(f"a version after {beyond}: {what}",
                     lambda: (v := self.version("origin") or 0) > beyond and v)

    def settles(self):
        """Nothing more is to come: an asked-for look finds what there is."""
        return self.publish()

    def edits(self):
        tree = self.tree
        yield "a new file in a new directory", lambda: (
            (tree / "new/deep").mkdir(parents=True), (tree / "new/deep/file").write_text("one"))
        yield "written in place", lambda: (tree / "new/deep/file").write_text("two!")
        yield "metadata", lambda: (tree / "new/deep/file").chmod(0o600)
        yield "a directory's metadata", lambda: (tree / "new").chmod(0o750)
        yield "the root's metadata", lambda: tree.chmod(0o711)
        yield "a moved directory", lambda: (tree / "new").rename(tree / "moved")
        yield "below a moved directory", lambda: (tree / "moved/deep/more").write_text("three")
        yield "through a mapping", self.map_and_write
        yield "a link", lambda: os.link(tree / "moved/deep/more", tree / "linked")
        yield "the other name", lambda: (tree / "linked").write_text("four")
        yield "a symlink", lambda: (tree / "to").symlink_to("moved/deep")
        yield "removed", lambda: shutil.rmtree(tree / "moved")

    def map_and_write(self):
        with open(self.tree / "moved/deep/more", "r+b") as file:
            with mmap.mmap(file.fileno(), 0) as view:
                view[0:2] = b"TH"

    def notices(self, watch, expected):
        self.watched(watch)
        self.up("origin")
        self.up("mirror")
        version = self.grows(0, "the first")
        self.assertTrue(self.said("origin", f"changes are noticed by {expected}"))
        for what, edit in self.edits():
            edit()
            version = self.grows(version, what)
            self.reaches(version)
            self.reaches(self.settles())
            self.assertSame(f"after {what}")
            version = self.version("origin")

    def test_by_a_watch_for_each_directory(self):
        self.notices("inotify", "inotify")

    def test_by_one_mark_for_the_filesystem(self):
        self.watched("fanotify")
        origin = self.up("origin")
        until("it watches, or says that it may not",
              lambda: self.said("origin", "changes are noticed by fanotify") or
              self.said("origin", "opening: (fanotify|marking)"))
        if not self.said("origin", "changes are noticed by fanotify"):
            self.skipTest("fanotify is not permitted here")
        self.end(origin)
        self.notices("fanotify", "fanotify")

    def test_without_a_watch_only_when_asked(self):
        self.watched("none")
        self.up("origin")
        self.grows(0, "the first")
        (self.tree / "file").write_text("x")
        self.assertEqual(self.version("origin"), 1)
        self.assertEqual(self.publish(), 2)

    def mount(self, what):
        done = subprocess.run(["mount", "--bind", what, self.tree], capture_output=True, text=True,
                              check=False)
        if done.returncode:
            self.skipTest(f"mounting is not permitted here: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-lq", self.tree], check=False)

    def unmount(self):
        subprocess.run(["umount", "-l", self.tree], check=True)

    def test_a_root_that_goes_away_and_comes_back(self):
        self.goes_and_comes("auto")

    def test_a_root_that_goes_away_and_comes_back_each_directory_watched(self):
        self.goes_and_comes("inotify")

    def goes_and_comes(self, watch):
        self.watched(watch)
        store = self.dir / "disk"
        self.rsync_options = ["--exclude=/.mirrorbus"]  # beside the tree is another filesystem
        (store / "sub").mkdir(parents=True)
        (store / "sub/file").write_text("here")
        self.mount(store)
        self.up("origin")
        self.up("mirror")
        version = self.grows(0, "the first")
        self.reaches(self.settles())
        self.unmount()
        until("it is said that the root is empty", lambda: "empty" in self.error("origin"))
        self.assertEqual(self.version("origin"), version)
        self.assertTrue((self.copy / "sub/file").exists())
        self.mount(store)
        until("it is there again", lambda: self.error("origin") == "")
        # Watched anew, in the root and below it.
        for name in "file", "sub/more":
            (self.tree / name).write_text("after")
            version = self.grows(version, name)
        self.reaches(self.settles())
        self.assertSame("after the root came back")

    def error(self, name):
        return self.control(name, "status")[0]["last_error"]


if __name__ == "__main__":
    main(sys.argv)
