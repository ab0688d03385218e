#!/usr/bin/python3
"""bus-mirrord: two of one identity; mirrors that come in the middle, are behind, or lose what they
follow."""
import contextlib
import pathlib
import shutil
import sqlite3
import sys
import threading

from proxy import Proxy
from world import World, free_ports, main, until

TREE = """
[discovery]
static = [{sources}]
[content]
listen = "127.0.0.1:0"
[[tree]]
name = "{tree}"
path = "{path}"
role = "{role}"
{more}
[[tree]]
name = "{other}"
path = "{path}.other"
role = "{other_role}"
"""

class Mirrord(World):
    def mirror_config(
        self, file, name, sources, tree="t", role="origin", other="u", other_role="mirror", more=""
    ):
        """A daemon of two trees, so that it publishes and listens. `more`: of the first one."""
        path = self.dir / f"{file}.tree"
        for made in (path, pathlib.Path(f"{path}.other")):
            made.mkdir(exist_ok=True)
        listed = ", ".join(f'{{ publish = "{p}", serve = "{s}" }}' for p, s in sources)
        text = TREE.format(
            sources=listed, tree=tree, path=path, role=role, other=other, other_role=other_role, more=more
        )
        return self.config(name, text, file=file)

    def follower(self, more=""):
        """The configuration of a daemon `mirror` of tree t of `origin`."""
        return self.mirror_config(
            "mirror", "mirror", [self.endpoints("origin"), self.endpoints("mirror")], role="mirror",
            other="v", other_role="origin", more=more,
        )

    def endpoints(self, file):
        return f"ipc://{self.dir}/{file}.publish", f"ipc://{self.dir}/{file}.serve"

    def test_the_older_of_two_with_one_identity_ends(self):
        both = [self.endpoints("first"), self.endpoints("second")]
        first = self.start("bus-mirrord", self.mirror_config("first", "same", both), "first")
        self.ready("first")
        # It hears itself, and that is no sign of another.
        until("it hears its own heads",
              lambda: (self.metric("first", "mirrorbus_heads_total") or 0) >= 2)
        self.assertIsNone(first.poll())
        second = self.start("bus-mirrord", self.mirror_config("second", "same", both), "second")
        until("the older one ends", lambda: first.poll() is not None, 30)
        self.assertEqual(first.returncode, 1)
        self.assertTrue(
            self.said("first", r"error .*duplicate_publisher: another daemon publishes as same@test")
        )
        self.ready("second")
        heads = lambda: self.metric("second", "mirrorbus_heads_total") or 0  # told once a second
        before = heads()
        until("the other goes on", lambda: heads() >= before + 2)
        self.assertIsNone(second.poll())
        self.assertEqual(self.metric("second", "mirrorbus_duplicate_publisher_total"), 0)

    def test_a_version_between_the_question_and_the_first_head_is_not_missed(self):
        (port,) = free_ports(1)
        origin = self.mirror_config("origin", "origin", [])
        serve = f"ipc://{self.dir}/origin.serve"  # a local socket is not advertised
        origin.write_text(origin.read_text().replace(serve, f"tcp://127.0.0.1:{port}"))
        self.start("bus-mirrord", origin, "origin")
        self.ready("origin")
        (self.dir / "origin.tree" / "file").write_text("one")
        first = self.control("origin", "publish", tree="t")

        heads, kept_back = threading.Event(), threading.Event()

        def change(frame):
            """Credentials pass; heads do once they may; events never."""
            if frame[:1] != b"\1":
                kept_back.set()
            passes = frame[:2] == b"\1C" or (frame[:2] == b"\1H" and heads.is_set())
            return frame if passes else None

        gate = Proxy(f"ipc://{self.dir}/origin.publish", f"ipc://{self.dir}/gate", change)
        self.addCleanup(gate.end)
        mirror = self.mirror_config(
            "mirror", "mirror", [(f"ipc://{self.dir}/gate", "")], role="mirror", other="v",
            other_role="origin",
        )
        self.start("bus-mirrord", mirror, "mirror")
        self.ready("mirror")
        copy = self.dir / "mirror.tree" / "file"
        # It has been told by the origin's answer to its question alone: it has heard no head yet.
        self.assertTrue(self.control("mirror", "wait", tree="t", version=first))
        self.assertEqual(copy.read_text(), "one")
        self.assertEqual(self.metric("mirror", "mirrorbus_heads_total") or 0, 0)

        (self.dir / "origin.tree" / "file").write_text("two, longer")
        second = self.control("origin", "publish", tree="t")
        self.assertGreater(second, first)
        # The event has gone by; now the heads come through.
        until("the gate has kept the event back", kept_back.is_set)
        heads.set()
        until("the mirror has the second version", lambda: copy.read_text() == "two, longer", 20)
        self.assertEqual(self.metric("mirror", "mirrorbus_events_received_total") or 0, 0)

    def test_publish_waits_for_a_look_that_began_later(self):
        """Also while versions close by themselves: an announcement under way answers nobody too soon."""
        origin = self.mirror_config("origin", "origin", [self.endpoints("origin")],
                                    more='settle = "1ms"')
        self.start("bus-mirrord", origin, "origin")
        self.ready("origin")
        file = self.dir / "origin.tree" / "file"
        version = self.control("origin", "publish", tree="t")
        for i in range(80):
            file.write_text("x" * (2 * i + 1))
            for _ in range(i % 20):  # a moment; now and then the daemon begins to look by itself
                if self.control("origin", "status")[0]["state"] != "current":
                    break
            file.write_text("x" * (2 * i + 2))
            before, version = version, self.control("origin", "publish", tree="t")
            self.assertGreater(version, before, f"round {i}")
            # All that was there is in it.
            self.assertEqual(self.control("origin", "publish", tree="t"), version, f"round {i}")

    def test_a_mirror_that_is_behind_says_how_far(self):
        both = [self.endpoints("origin"), self.endpoints("mirror")]
        self.start("bus-mirrord", self.mirror_config("origin", "origin", both), "origin")
        self.start("bus-mirrord", self.follower(), "mirror")
        self.ready("origin")
        self.ready("mirror")

        def gauge(name):
            return self.metric("mirror", f'mirrorbus_tree_{name}{{tree="t"}}')

        first = self.control("origin", "publish", tree="t")
        self.assertTrue(self.control("mirror", "wait", tree="t", version=first))
        until("it is at the head",
              lambda: gauge("head_version") == first and gauge("lag_seconds") == 0)
        self.assertEqual(self.control("mirror", "pause", tree="t"), "paused")
        (self.dir / "origin.tree" / "file").write_text("one")
        second = self.control("origin", "publish", tree="t")
        until("it lags", lambda: gauge("lag_seconds") > 0)
        self.assertEqual((gauge("version"), gauge("head_version")), (first, second))
        self.assertEqual(self.control("mirror", "resume", tree="t"), "resumed")
        until("it has caught up", lambda: gauge("version") == second and gauge("lag_seconds") == 0)

    def test_content_comes_from_another_source_when_the_origin_gives_none(self):
        dead, content = free_ports(2)
        both = [self.endpoints("origin"), self.endpoints("mirror")]
        origin = self.mirror_config("origin", "origin", both)
        text = origin.read_text().replace(
            '[content]\nlisten = "127.0.0.1:0"', f'[content]\nlisten = "127.0.0.1:{content}"'
        )
        dead_url = f"http://127.0.0.1:{dead}"
        origin.write_text(text.replace("[bus]", f'[bus]\nadvertise_content = "{dead_url}"'))
        mirror = self.follower(f'source = ["http://127.0.0.1:{content}"]')
        (self.dir / "origin.tree" / "file").write_text("one")
        self.start("bus-mirrord", origin, "origin")
        self.start("bus-mirrord", mirror, "mirror")
        self.ready("origin")
        self.ready("mirror")
        version = self.control("origin", "publish", tree="t")
        self.assertTrue(self.control("mirror", "wait", tree="t", version=version))
        self.assertEqual((self.dir / "mirror.tree" / "file").read_text(), "one")
        first, second = self.control("mirror", "status")[0]["sources"]
        self.assertEqual((first["url"], first["state"], first["bytes"]), (dead_url, "failing", 0))
        self.assertIn("unavailable", first["last_error"])
        self.assertEqual((second["url"], second["state"]), (f"http://127.0.0.1:{content}", "ready"))
        self.assertGreater(second["bytes"], 0)
        self.assertFalse(self.said("mirror", "sync failed"))  # it went on within the same sync

    def test_a_mirror_without_space_tries_again_by_itself(self):
        both = [self.endpoints("origin"), self.endpoints("mirror")]
        origin = self.mirror_config("origin", "origin", both)
        mirror = self.follower('min_free = "9000000GB"')
        (self.dir / "origin.tree" / "file").write_text("one")
        self.start("bus-mirrord", origin, "origin")
        self.start("bus-mirrord", mirror, "mirror")
        self.ready("mirror")
        until("it has tried twice",
              lambda: (self.metric("mirror", "mirrorbus_tree_sync_failures_total") or 0) >= 2)
        status = self.control("mirror", "status")[0]
        self.assertEqual((status["state"], status["version"]), ("failed", 0))
        self.assertIn("min_free", status["last_error"])
        self.assertFalse((self.dir / "mirror.tree" / "file").exists())

    def sealed(self, state, version):
        index = sqlite3.connect(f"file:{self.dir}/{state}/tree-t.sqlite?mode=ro", uri=True)
        with contextlib.closing(index):
            return index.execute("SELECT length(sealed) > 0 FROM versions WHERE number = ?", [version]).fetchone()[0]

    def test_a_mirror_takes_a_new_history_as_the_manual_says(self):
        """docs/operations.md: an origin whose state is lost, with most of its tree."""
        both = [self.endpoints("origin"), self.endpoints("mirror")]
        configs = {
            "origin": self.mirror_config("origin", "origin", both),
            "mirror": self.follower(),
        }
        daemons = {name: self.start("bus-mirrord", config, name) for name, config in configs.items()}
        self.ready("origin")
        self.ready("mirror")
        (self.dir / "origin.tree" / "file").write_text("one")
        others = [self.dir / "origin.tree" / f"other{number}" for number in range(5)]
        for other in others:
            other.write_text("another")
        first = self.control("origin", "publish", tree="t")
        self.assertTrue(self.control("mirror", "wait", tree="t", version=first))

        until("the mirror can hand on what the origin said",
              lambda: self.sealed("mirror", first), 15)
        self.end(daemons["origin"])
        shutil.rmtree(self.dir / "origin")
        (self.dir / "origin.tree" / "file").write_text("two, longer")
        for other in others:
            other.unlink()
        self.start("bus-mirrord", configs["origin"], "origin")
        self.ready("origin")
        def shown(name):
            trees = self.control(name, "status")
            return trees[0]["last_error"] if trees else ""

        until("the origin holds back", lambda: f"has version {first} of this tree" in shown("origin"))
        self.assertIsNone(self.control("origin", "publish", tree="t"))
        again = self.control("origin", "accept", tree="t")
        until("the mirror refuses it", lambda: shown("mirror").startswith("foreign_tree"))
        self.assertEqual((self.dir / "mirror.tree" / "file").read_text(), "one")
        self.assertEqual(self.control("mirror", "accept", tree="t"), again)
        self.assertEqual((self.dir / "mirror.tree" / "file").read_text(), "two, longer")
        self.assertFalse((self.dir / "mirror.tree" / "other0").exists())

if __name__ == "__main__":
    main(sys.argv)
