#!/usr/bin/python3
"""An origin whose state is lost or restored from an older copy, and what its mirror makes of that."""
import contextlib
import shutil
import sqlite3
import subprocess
import sys

from mirroring import Mirroring
from world import main, until


class Forks(Mirroring):
    def setUp(self):
        super().setUp()
        self.tree.mkdir(parents=True)

    def knows_the_mirror(self):
        """The origin can ask the mirror what it has."""
        text = self.origin_config.read_text()
        self.origin_config.write_text(text.replace(
            "[content]", f'[discovery]\nstatic = [{{ serve = "ipc://{self.dir}/mirror.serve" }}]\n[content]', 1))

    def published(self, text):
        (self.tree / "file").write_text(text)
        version = self.publish()
        self.reaches(version)
        return version

    def start_both(self):
        self.up("origin")
        self.up("mirror")

    def stop_origin(self):
        self.end(self.running["origin"])

    def tree_status(self, name):
        trees = self.control(name, "status")
        return trees[0] if trees else {"state": "", "last_error": "", "version": 0, "head_version": 0}

    def until_sealed(self, version):
        until("the mirror can hand on what the origin said", lambda: self.sealed(version))

    def sealed(self, version):
        index = sqlite3.connect(f"file:{self.dir}/mirror/tree-t.sqlite?mode=ro", uri=True)
        with contextlib.closing(index):
            return index.execute("SELECT length(sealed) > 0 FROM versions WHERE number = ?", [version]).fetchone()[0]

    def lose_state(self):
        self.stop_origin()
        shutil.rmtree(self.dir / "origin")

    def back_up(self):
        """As an operator should: while nothing runs."""
        self.stop_origin()
        subprocess.run(["cp", "-a", self.dir / "origin", self.dir / "backup"], check=True)
        self.up("origin")

    def restore(self):
        self.lose_state()
        subprocess.run(["cp", "-a", self.dir / "backup", self.dir / "origin"], check=True)

    def holds_back(self, version):
        self.up("origin")
        until(lambda: f"the origin holds back: {self.tree_status('origin')}",
              lambda: self.tree_status("origin")["state"] == "fork")
        self.assertIn(f"knows version {version} of this tree", self.tree_status("origin")["last_error"])
        self.assertIsNone(self.bus_mirror("origin", "publish", "t"))
        self.assertIn(f"--from {version}", self.last_said)

    def goes_on_from(self, version):
        self.assertIsNone(self.bus_mirror("origin", "adopt", "t", "--from", str(version + 5)))
        self.assertIn("none of those asked has version", self.last_said)
        self.assertEqual(self.bus_mirror("origin", "adopt", "t", "--from", str(version)), str(version + 1))
        self.reaches(version + 1)
        self.assertSame("when the origin goes on")
        self.assertEqual(self.tree_status("mirror")["last_error"], "")
        self.assertEqual(self.published("after that"), version + 2)
        self.assertSame("after that")

    def test_a_state_that_is_lost_is_gone_on_from(self):
        self.knows_the_mirror()
        self.start_both()
        self.published("one")
        version = self.published("two")
        self.until_sealed(version)
        self.lose_state()
        (self.tree / "file").write_text("three")
        self.holds_back(version)
        self.goes_on_from(version)

    def test_a_state_restored_from_three_versions_ago_is_gone_on_from(self):
        self.knows_the_mirror()
        self.start_both()
        self.published("one")
        self.back_up()
        for text in ("two", "three", "four"):
            version = self.published(text)
        self.until_sealed(version)
        self.restore()
        self.holds_back(version)
        self.goes_on_from(version)

    def test_a_lost_state_nobody_is_asked_about_is_another_tree(self):
        self.start_both()
        self.published("one")
        version = self.published("two")
        self.lose_state()
        (self.tree / "file").write_text("another history")
        self.up("origin")
        self.assertEqual(self.publish(), 1)
        until("the mirror refuses it",
              lambda: self.tree_status("mirror")["last_error"].startswith("foreign_tree"))
        self.assertEqual(self.tree_status("mirror")["version"], version)
        self.assertEqual((self.copy / "file").read_text(), "two")
        self.assertEqual(self.bus_mirror("mirror", "accept", "t"), "1")
        self.assertSame("after accepting")
        self.assertEqual(self.published("on"), 2)
        self.assertSame("after the next one")
        self.end(self.running["mirror"])
        self.up("mirror")
        self.assertEqual(self.published("and on"), 3)

    def test_a_restored_state_nobody_is_asked_about_is_a_fork(self):
        self.start_both()
        self.published("one")
        self.back_up()
        for text in ("two", "three", "four"):
            version = self.published(text)
        self.restore()
        (self.tree / "file").write_text("from the backup")
        self.up("origin")
        other = self.publish()
        self.assertLess(other, version)
        until(lambda: f"the mirror says so: {self.tree_status('mirror')}",
              lambda: self.tree_status("mirror")["state"] == "fork")
        self.assertEqual((self.copy / "file").read_text(), "four")
        (self.tree / "file").write_text("and more")
        newest = self.publish()
        until("the mirror hears of the next one",
              lambda: self.tree_status("mirror")["head_version"] == newest)
        self.assertEqual((self.copy / "file").read_text(), "four")
        self.assertEqual(self.bus_mirror("mirror", "accept", "t"), str(newest))
        self.assertSame("after accepting")
        self.assertEqual(self.published("on"), newest + 1)
        self.assertEqual(self.tree_status("mirror")["state"], "current")


if __name__ == "__main__":
    main(sys.argv)
