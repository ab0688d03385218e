#!/usr/bin/python3
"""An origin whose state is lost or restored from an older copy, and what its mirror makes of that."""
import contextlib
import shutil
import sqlite3
import subprocess
import sys

import serving
from knot import KnotWorld
from mirroring import MIRROR, Mirroring
from world import free_ports, main, until


class LostStates(Mirroring):
    def setUp(self):
        super().setUp()
        self.tree.mkdir(parents=True)

    def knows_the_mirror(self):
        """The origin can ask the mirror what it has."""
        self.knows(f'static = [{{ serve = "ipc://{self.dir}/mirror.serve" }}]')

    def knows(self, whom):
        text = self.origin_config.read_text()
        self.origin_config.write_text(text.replace("[content]", f"[discovery]\n{whom}\n[content]", 1))

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
        self.assertIn(f"has version {version} of this tree, sealed by this origin",
                      self.tree_status("origin")["last_error"])
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

    def goes_on_by_itself(self, version):
        """The state is lost, and the tree is as good as it was."""
        self.lose_state()
        (self.tree / "file").write_text("three")
        self.up("origin")
        self.reaches(version + 1)
        self.assertSame("when the origin goes on")
        self.assertEqual(self.tree_status("mirror")["last_error"], "")
        self.assertEqual(self.tree_status("origin")["state"], "current")
        self.assertEqual(self.published("after that"), version + 2)
        self.assertSame("after that")

    def handed_back(self, version):
        """What the mirror hands back to whoever asks: the event and its credential."""
        parts = serving.ask(self, f"ipc://{self.dir}/mirror.serve", "tree", name="t", number=version)[1:]
        self.assertEqual(len(parts), 2)
        return parts

    def hands_back(self, *parts, status="ok"):
        """A serve socket that answers everybody with these; its endpoint."""
        return serving.answering(self, lambda _: [{"status": status}, *parts])

    def two_versions(self):
        self.start_both()
        self.published("one")
        version = self.published("two")
        self.until_sealed(version)
        return version


class Forks(LostStates):
    def test_a_state_that_is_lost_is_gone_on_from(self):
        self.knows_the_mirror()
        self.goes_on_by_itself(self.two_versions())

    def test_a_state_that_is_lost_with_most_of_the_tree_is_not(self):
        for number in range(8):
            (self.tree / f"more{number}").write_text("more")
        self.knows_the_mirror()
        version = self.two_versions()
        self.lose_state()
        kept = self.dir / "kept"
        self.tree.rename(kept)
        self.tree.mkdir()
        (self.tree / "file").write_text("all there is")
        self.holds_back(version)
        self.assertIn("was the tree lost with the state", self.tree_status("origin")["last_error"])
        shutil.rmtree(self.tree)
        kept.rename(self.tree)
        self.goes_on_from(version)

    def test_a_state_that_is_lost_waits_for_somebody_to_answer(self):
        # Who holds no trees, as a relay, knows nothing of this one.
        relay = self.hands_back(status="unknown_verb")
        self.knows(f'static = [{{ serve = "{relay}" }}, {{ serve = "ipc://{self.dir}/mirror.serve" }}]')
        version = self.two_versions()
        self.end(self.running["mirror"])
        self.lose_state()
        self.up("origin")
        until(lambda: f"the origin waits: {self.tree_status('origin')}",
              lambda: "none of the 1 that may know one answers" in self.tree_status("origin")["last_error"])
        self.assertEqual((self.tree_status("origin")["state"], self.tree_status("origin")["version"]), ("starting", 0))
        self.up("mirror")
        self.reaches(version + 1)
        self.assertSame("when the mirror has answered")
        self.assertEqual(self.tree_status("origin")["state"], "current")

        # An operator who knows that there is nobody need not wait.
        self.end(self.running["mirror"])
        self.lose_state()
        self.up("origin")
        self.assertEqual(
            until("the origin waits", lambda: self.bus_mirror("origin", "accept", "t")), "1")

    def test_what_others_made_up_changes_nothing(self):
        version = self.two_versions()
        event, credential = self.handed_back(version)
        tree_hash = bytes.fromhex(self.tree_status("mirror")["tree_hash"])
        self.assertIn(tree_hash, event)
        forged = event.replace(tree_hash, bytes([tree_hash[0] ^ 1]) + tree_hash[1:])
        forger = self.hands_back(forged, credential)
        self.lose_state()
        self.knows(f'static = [{{ serve = "{forger}" }}]')
        self.end(self.running["mirror"])
        self.up("origin")
        until("the origin begins anew, for nobody real can be asked",
              lambda: self.tree_status("origin")["version"] == 1)
        self.assertEqual(self.metric("origin", 'mirrorbus_refused_total{reason="bad_path"}'), 1)
        self.assertIsNone(self.bus_mirror("origin", "adopt", "t", "--from", str(version), "--source", forger))
        self.assertIn("has not sealed it: bad_path", self.last_said)

    def test_what_nobody_can_show_to_be_sealed_waits_for_an_operator(self):
        version = self.two_versions()
        event, _ = self.handed_back(version)
        silent = self.hands_back(event)
        self.lose_state()
        self.knows(f'static = [{{ serve = "{silent}" }}]')
        self.up("origin")
        until(lambda: f"the origin holds back: {self.tree_status('origin')}",
              lambda: self.tree_status("origin")["state"] == "fork")
        self.assertIn(f"adopt t --from {version} --source {silent}", self.tree_status("origin")["last_error"])
        self.assertIsNone(self.bus_mirror("origin", "adopt", "t", "--from", str(version)))
        self.assertIn("not the credential that sealed it", self.last_said)
        self.assertEqual(
            self.bus_mirror("origin", "adopt", "t", "--from", str(version), "--source", silent), str(version + 1))
        self.reaches(version + 1)
        self.assertSame("on an operator's word")

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


class FoundByName(KnotWorld, LostStates):
    def test_a_mirror_that_only_dns_knows_is_asked(self):
        self.ports = {"mirror": free_ports(2)}
        publish, serve = (f"tcp://127.0.0.1:{port}" for port in self.ports["mirror"])
        self.config("mirror", MIRROR.format(dir=self.dir), publish=publish, serve=serve)
        self.zone("mirror")
        _, port = self.start_dns()
        self.knows(f'domains = ["example.org"]\nresolvers = ["127.0.0.1:{port}"]')
        self.goes_on_by_itself(self.two_versions())


if __name__ == "__main__":
    main(sys.argv)
