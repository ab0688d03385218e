#!/usr/bin/python3
"""What bus-mirror says of a tree's versions, and what it does with them: diff, sync --dry-run, rollback."""
import contextlib
import json
import sqlite3
import subprocess
import sys
import threading

import serving
from mirroring import Mirroring, RandomTree
from world import ENVIRONMENT, main, until

SEED = 7


def unlinked(lines, linked):
    """Without names that share their file with others: which of them is told of is rsync's affair."""
    return sorted(line for line in lines if line[12:].split(" => ")[0] not in linked)


class History(Mirroring):
    def said(self, name, *words, code=0):
        """The tool's lines for people."""
        done = subprocess.run(
            [self.programs["bus-mirror"], "--config", self.dir / f"{name}.toml", *words],
            capture_output=True, text=True, check=False, env={**ENVIRONMENT, "LC_ALL": "C.UTF-8"},
        )
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout.splitlines() if code == 0 else done.stderr

    def keep(self, name):
        """A copy of the origin's tree as it is."""
        subprocess.run(["cp", "-a", self.tree, self.dir / name], check=True)
        return self.dir / name

    def rsync_says(self, to, now):
        return subprocess.run(
            ["rsync", "-naHAXc", "-@-1", "--delete", "-i", f"{now}/", f"{to}/"],
            capture_output=True, text=True, check=True, env={**ENVIRONMENT, "LC_ALL": "C.UTF-8"},
        ).stdout.splitlines()

    def linked(self, *trees):
        return {str(p.relative_to(t)) for t in trees for p in t.rglob("*")
                if not p.is_dir() and p.lstat().st_nlink > 1}


class Diff(History):
    def test_versions_are_compared_as_rsync_does(self):
        print("seed", SEED)
        edits = RandomTree(self.tree, 400, SEED)
        self.up("origin")
        first = self.publish()
        one = self.keep("one")
        edits.change(0.2)
        (self.tree / "new\nline").write_text("odd")
        second = self.publish()
        edits.change(0.1)
        third = self.publish()
        three = self.keep("three")
        linked = self.linked(one, three)
        lines = self.said("origin", "diff", "t", str(first), str(third))
        self.assertEqual(unlinked(lines, linked), unlinked(self.rsync_says(one, three), linked))
        self.assertIn(">f+++++++++ new\\#012line", lines)
        objects = [json.loads(line) for line in self.said("origin", "--json", "diff", "t", str(first), str(third))]
        self.assertEqual([o["change"] for o in objects], [line[:11] for line in lines])

        self.up("mirror")
        self.reaches(third)
        self.assertIn("version 1 is not held here", self.said("mirror", "diff", "t", "1", "3", code=1))
        self.assertIn("version 9 is not held here", self.said("origin", "diff", "t", "1", "9", code=1))
        self.said("mirror", "pause", "t")
        edits.change(0.1)
        fourth = self.publish()
        until("the mirror hears of it",
              lambda: self.control("mirror", "status")[0]["head_version"] == fourth)
        would = self.said("mirror", "sync", "--dry-run", "t")
        self.assertEqual(would, self.said("origin", "diff", "t", str(third), str(fourth)))
        self.assertNotEqual(would, [])
        self.assertEqual(self.version("mirror"), third)
        self.said("mirror", "resume", "t")
        self.reaches(fourth)
        self.assertSame("after a dry run and the sync")
        self.assertEqual(self.said("mirror", "sync", "--dry-run", "t"), [])
        self.assertEqual(self.said("mirror", "diff", "t", str(third), str(fourth)), would)
        versions = self.control("origin", "versions", tree="t")
        self.assertEqual([v["number"] for v in versions], [first, second, third, fourth])
        for version in versions:
            self.assertGreater(version["pack_bytes"], 0)
            self.assertGreater(version["files"], 300)

    def test_many_lines_come_in_pages(self):
        self.tree.mkdir(parents=True)
        for directory in range(13):
            (self.tree / f"d{directory}").mkdir()
            for number in range(1000):
                (self.tree / f"d{directory}/{number}").touch()
        self.up("origin")
        self.publish()
        lines = self.said("origin", "diff", "t", "0", "1")
        self.assertEqual(len(lines), 13 * 1001 + 1)
        self.assertEqual(len(set(lines)), len(lines))


class Rollback(History):
    def test_mirrors_follow_an_origin_that_goes_back(self):
        print("seed", SEED)
        edits = RandomTree(self.tree, 400, SEED)
        self.up("origin")
        self.up("mirror")
        first = self.publish()
        one = self.keep("one")
        edits.change(0.3)
        second = self.publish()
        (self.tree / "in no version yet").write_text("kept")
        self.assertIn("version 7 is not held any more", self.said("origin", "rollback", "t", "7", code=1))
        back = int(self.said("origin", "rollback", "t", str(first))[0])
        # Version 3 has what was in no version before: it can be gone back to.
        self.assertGreater(back, second + 1)
        self.reaches(back)
        self.assertSame("after going back")
        for from_, to in ((one, self.copy), (self.copy, one)):
            self.assertEqual(self.rsync_says(from_, to), [])
        hashes = {v["number"]: v["tree_hash"] for v in self.control("origin", "versions", tree="t")}
        self.assertEqual(hashes[first], hashes[back])
        forth = int(self.said("origin", "rollback", "t", str(back - 1))[0])
        self.reaches(forth)
        self.assertEqual((self.copy / "in no version yet").read_text(), "kept")
        self.assertSame("after going forth")
        self.assertEqual(self.said("origin", "diff", "t", str(first), str(back)), [])
        self.assertIn("only an origin", self.said("mirror", "rollback", "t", "1", code=1))


class Asked(History):
    @contextlib.contextmanager
    def held_up(self, name):
        """Nothing can be written to the daemon's index."""
        index = sqlite3.connect(self.dir / name / "tree-t.sqlite", isolation_level=None)
        index.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            index.execute("ROLLBACK")
            index.close()

    def answer(self, verb, **fields):
        """Of the origin's serve socket: what comes at once, or within 3 s."""
        said, *parts = serving.ask(self, f"ipc://{self.dir}/origin.serve", verb, seconds=3, **fields)
        self.assertEqual(said["status"], "ok", verb)
        return said, parts

    def test_an_origin_answers_while_it_looks_at_its_tree(self):
        edits = RandomTree(self.tree, 300, SEED)
        self.up("origin")
        first = self.publish()
        edits.change(0.5)
        looking = threading.Thread(target=self.publish)
        # 10 s, then it gives up and looks again later.
        with self.held_up("origin"):
            looking.start()
            self.addCleanup(looking.join)  # before the daemons end
            until("it looks at its tree", lambda: self.control("origin", "status")[0]["state"] == "scanning")
            _, parts = self.answer("tree", name="t", number=first)
            self.assertGreaterEqual(len(parts), 1)
            self.assertIn("changes", self.answer("changes", name="t", number=first)[0])
            said, _ = self.answer("have", name="t", run=b"r" * 16, number=0, want=first, content="")
            self.assertEqual((said["number"], said["pull"]), (first, "here"))
            stream = self.answer("info")[0]["stream"]
            _, parts = self.answer("credential", stream=stream, before_epoch=2**62, limit=1)
            self.assertEqual(len(parts), 1)
            versions = self.control("origin", "versions", tree="t")
            self.assertEqual([v["number"] for v in versions], [first])
            self.assertGreater(len(self.said("origin", "diff", "t", "0", str(first))), 200)
            self.assertEqual(self.control("origin", "status")[0]["state"], "scanning", "it is not held up")
        looking.join()
        self.assertGreater(self.publish(), first)


if __name__ == "__main__":
    main(sys.argv)
