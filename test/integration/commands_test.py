#!/usr/bin/python3
"""Programs that a daemon runs: hooks of both roles, and an origin's import from an rsync daemon."""
import os
import subprocess
import sys

from mirroring import Mirroring
from world import free_ports, main, until

# Notes what it is told, one directory for each run; waits while a file says so.
HOOK = """#!/bin/sh
set -e
run=$(mktemp -d {dir}/runs/XXXXXX)
cat > $run/changes
env | grep ^MIRRORBUS_ > $run/env
echo told of $MIRRORBUS_VERSION
touch $run/done
while test -e {dir}/wait; do sleep 0.02; done
test ! -e {dir}/fail
"""


class Hooks(Mirroring):
    def setUp(self):
        super().setUp()
        self.tree.mkdir(parents=True)
        (self.dir / "runs").mkdir()
        script = self.dir / "hook"
        script.write_text(HOOK.format(dir=self.dir))
        script.chmod(0o755)

    def hook(self, config, more=""):
        config.write_text(config.read_text() + f'[[tree.hooks]]\ncommand = ["{self.dir}/hook"]\n{more}')

    def runs(self):
        """(environment, changes) of each run that has read all, by version."""
        found = []
        for run in (self.dir / "runs").iterdir():
            if (run / "done").exists():
                env = dict(line.split("=", 1) for line in (run / "env").read_text().splitlines())
                found.append((env, (run / "changes").read_bytes()))
        return sorted(found, key=lambda run: int(run[0]["MIRRORBUS_VERSION"]))

    def told_of(self, version):
        return until(lambda: f"the hook is told of {version}: {self.runs()}", lambda: next(
            (run for run in self.runs() if run[0]["MIRRORBUS_VERSION"] == str(version)), None))

    def check(self, event):
        (self.tree / "first").write_text("1")
        self.up("origin")
        self.up("mirror")
        first = self.publish()
        self.reaches(first)
        env, changes = self.told_of(first)
        self.assertEqual((env["MIRRORBUS_EVENT"], env["MIRRORBUS_CHANGES"], changes), (event, "all", b""))
        (self.tree / "odd\nname").write_text("2")
        (self.tree / "first").rename(self.tree / "moved")
        second = self.publish()
        self.reaches(second)
        env, changes = self.told_of(second)
        self.assertEqual(changes, b"move\0first\0moved\0add\0odd\nname\0")
        self.assertEqual(env["MIRRORBUS_CHANGES"], "listed")
        self.assertEqual(env["MIRRORBUS_FROM"], str(first))
        self.assertEqual(env["MIRRORBUS_TREE"], "t")
        return second

    def test_a_mirror_tells_its_hooks(self):
        self.hook(self.mirror_config)
        version = self.check("sync")
        self.assertTrue(self.said("mirror", f"told of {version}"))

    def test_an_origin_tells_its_hooks_and_what_comes_meanwhile_is_put_together(self):
        self.hook(self.origin_config)
        version = self.check("publish")
        (self.dir / "wait").touch()
        (self.tree / "a").touch()
        slow = self.publish()
        self.told_of(slow)
        for name in "bcd":
            (self.tree / name).touch()
            last = self.publish()
        self.reaches(last)  # it holds nobody up
        self.assertEqual(len(self.runs()), 3)
        (self.dir / "wait").unlink()
        env, changes = self.told_of(last)
        self.assertEqual(changes, b"add\0b\0add\0c\0add\0d\0")
        self.assertEqual(env["MIRRORBUS_FROM"], str(slow))
        self.assertEqual((version + 1, len(self.runs())), (slow, 4))

    def test_a_hook_that_fails_or_hangs_is_shown_and_holds_nothing_up(self):
        self.hook(self.mirror_config, 'timeout = "300ms"\n')
        self.check("sync")
        (self.dir / "fail").touch()
        (self.tree / "x").touch()
        self.reaches(self.publish())
        until("it is shown", lambda: "exit code 1" in self.control("mirror", "status")[0]["hook_error"])
        (self.dir / "fail").unlink()
        (self.dir / "wait").touch()
        (self.tree / "y").touch()
        self.reaches(self.publish())
        until("it is ended", lambda: "not done in time" in self.control("mirror", "status")[0]["hook_error"])
        self.assertEqual(self.metric("mirror", "mirrorbus_tree_hook_failures_total"), 2)
        (self.dir / "wait").unlink()
        (self.tree / "z").touch()
        self.reaches(self.publish())
        until("all is well", lambda: self.control("mirror", "status")[0]["hook_error"] == "")
        self.assertSame("with hooks")


class Import(Mirroring):
    def setUp(self):
        super().setUp()
        self.tree.mkdir(parents=True)
        self.upstream = self.dir / "upstream"
        self.upstream.mkdir()
        (self.port,) = free_ports(1)
        (self.dir / "rsyncd.conf").write_text(
            # Not as nobody, who may not enter this test's folder.
            f"uid = {os.getuid()}\ngid = {os.getgid()}\n"
            f"use chroot = no\nport = {self.port}\naddress = 127.0.0.1\n"
            f"[tree]\npath = {self.upstream}\nread only = yes\n")
        self.serve()
        self.origin_config.write_text(
            self.origin_config.read_text().replace('"manual"', '"auto"')
            + f'[tree.import]\ncommand = ["rsync", "-a", "--delete", "rsync://127.0.0.1:{self.port}/tree/", "."]\n')

    def serve(self):
        self.rsyncd = subprocess.Popen(
            ["rsync", "--daemon", "--no-detach", "--config", self.dir / "rsyncd.conf"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(self.stop_serving)
        until("rsync answers", lambda: subprocess.run(
            ["rsync", f"rsync://127.0.0.1:{self.port}/"], capture_output=True, check=False).returncode == 0)

    def stop_serving(self):
        self.rsyncd.terminate()
        self.rsyncd.wait(30)

    def status(self):
        return self.control("origin", "status")[0]

    def test_what_is_imported_is_published_and_what_fails_is_not(self):
        (self.upstream / "one").write_text("1")
        self.up("origin")
        self.up("mirror")
        first = int(until("imported", lambda: self.bus_mirror("origin", "import", "t")))
        self.reaches(first)
        self.assertEqual((self.copy / "one").read_text(), "1")
        self.assertSame("after an import")
        (self.upstream / "two").write_text("2")
        second = int(self.bus_mirror("origin", "import", "t"))
        self.assertGreater(second, first)
        self.reaches(second)
        self.assertEqual((self.copy / "two").read_text(), "2")

        self.stop_serving()
        (self.tree / "half").write_text("of an import")  # as one that was cut off leaves
        self.assertIsNone(self.bus_mirror("origin", "import", "t"))
        self.assertIn("the import failed: exit code", self.last_said)
        self.assertEqual(self.status()["state"], "failed")
        self.assertIn("exit code", self.status()["last_error"])
        self.assertEqual(self.metric("origin", "mirrorbus_tree_import_failures_total"), 1)

        # Not even after a restart, which imports again by itself.
        before = self.version("mirror")
        self.end(self.running["origin"])
        self.up("origin")
        until("it tries again and fails", lambda: self.control("origin", "status")
              and "the import failed: exit code" in self.status()["last_error"])
        self.assertEqual(self.status()["version"], second)
        self.serve()
        third = int(self.bus_mirror("origin", "import", "t"))
        self.reaches(third)
        self.assertEqual(self.status()["state"], "current")
        self.assertFalse((self.copy / "half").exists())
        if before < third:
            changed = self.control("origin", "diff", tree="t", **{"from": before, "to": third})["items"]
            self.assertFalse([item for item in changed if item[1] == "half"], changed)


if __name__ == "__main__":
    main(sys.argv)
