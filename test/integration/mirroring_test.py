#!/usr/bin/python3
"""An origin and a mirror of a real tree (of /usr/include), as root and as a plain user."""
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import unittest

from mirroring import Mirroring, RandomTree
from world import end_agent, free_ports, main, make_key, until

NOBODY = 65534
REAL = pathlib.Path("/usr/include/linux")


def work_on(tree):
    """What people do to a tree: edits, moves, links, modes, times, a directory for a file."""
    files = sorted(p for p in tree.rglob("*.h") if not p.is_symlink())
    for file in files[::17]:
        file.write_text(file.read_text(errors="replace") + "\n/* edited */\n")
    for file in files[5::31]:
        file.unlink()
    for file in files[7::41]:
        if file.exists():
            os.link(file, file.with_name(file.name + ".linked"))
            file.chmod(0o640 if os.geteuid() == 0 else 0o600)
    for file in files[11::53]:
        if file.exists():
            os.utime(file, ns=(0, -(10**9) + 123456789))
    first = min(p for p in tree.iterdir() if p.is_dir())
    first.rename(tree / "moved")
    (tree / "dangling").symlink_to("../nowhere")
    (tree / "was-a-file").mkdir()
    (tree / "was-a-file/now").write_text("below")


def mirror_as_nobody(self):
    """The mirror's program, keyring, state and tree are nobody's."""
    self.dir.chmod(0o755)
    home = self.dir / "nobody.gnupg"
    home.mkdir(mode=0o700)
    (self.dir / "m").chmod(0o755)
    (self.dir / "mirror").mkdir()
    program = self.dir / "bus-mirrord"
    shutil.copy(self.programs["bus-mirrord"], program)
    program.chmod(program.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    for theirs in (home, self.dir / "m", self.dir / "mirror"):
        os.chown(theirs, NOBODY, NOBODY)
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    self.addCleanup(end_agent, home, become)
    key = subprocess.run(
        ["gpg", "--homedir", self.home, "--batch", "--export", self.key], check=True, capture_output=True
    ).stdout
    subprocess.run(
        [*become, "gpg", "--homedir", home, "--batch", "--quiet", "--import"], input=key, check=True,
        capture_output=True,
    )
    own = make_key(home, "mirror@example.org", become)
    # What root's sockets in the file system are to others is not the point here.
    ports = dict(zip(["origin.publish", "origin.serve", "mirror.publish", "mirror.serve"], free_ports(4)))
    for config in (self.origin_config, self.mirror_config):
        text = config.read_text()
        for name, port in ports.items():
            text = text.replace(f"ipc://{self.dir}/{name}", f"tcp://127.0.0.1:{port}")
        config.write_text(text)
    text = self.mirror_config.read_text()
    text = text.replace(str(self.home), str(home)).replace(f'key = "{self.key}"', f'key = "{own}"')
    self.mirror_config.write_text(text)
    wrapper = self.dir / "as-nobody"
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(become)} {program} "$@"\n')
    wrapper.chmod(0o755)
    self.daemon_of = {"mirror": str(wrapper)}


class Real(Mirroring):
    def setUp(self):
        super().setUp()
        self.tree.parent.mkdir()
        subprocess.run(["cp", "-a", REAL, self.tree], check=True)
        (self.tree / "was-a-file").write_text("a file at first")

    def follow(self):
        self.up("origin")
        self.up("mirror")
        self.reaches(self.publish())
        self.assertSame("after the first sync")
        (self.tree / "was-a-file").unlink()
        work_on(self.tree)
        self.reaches(self.publish())
        self.assertSame("after edits")

    @unittest.skipUnless(os.geteuid() == 0, "owners are kept only by root")
    def test_as_root(self):
        for number, file in enumerate(sorted(self.tree.rglob("*.h"))[::9]):
            os.chown(file, 1000 + number % 3, 100)
            if number % 5 == 0:
                file.chmod(0o4755)
        self.follow()
        self.assertEqual(self.control("mirror", "status")[0]["fidelity"], "full")
        said = self.control("mirror", "verify", tree="t")
        self.assertTrue(said["equal"], said)

    def test_as_a_plain_user(self):
        """Of a tree that is somebody else's, where this runs as root."""
        self.rsync_options = ["--no-owner", "--no-group"]
        if os.geteuid() == 0:
            for number, file in enumerate(sorted(self.tree.rglob("*.h"))[::9]):
                os.chown(file, 1000 + number % 3, 100)
            mirror_as_nobody(self)
        self.follow()
        if os.geteuid() == 0:
            self.assertEqual(os.stat(self.copy / "was-a-file/now").st_uid, NOBODY)
            self.assertIn("without owners", " ".join(self.control("mirror", "status")[0]["fidelity"].split()))

    def test_who_was_away_takes_the_packs_in_between(self):
        content = os.urandom(3_000_000)
        (self.tree / "large").write_bytes(content)
        self.up("origin")
        mirror = self.up("mirror")
        self.reaches(self.publish())
        mirror.terminate()
        mirror.wait()
        for i in range(8):
            content = content[: 300_000 * i] + b"edit %d" % i + content[300_000 * i :]
            (self.dir / "next").write_bytes(content)
            os.replace(self.dir / "next", self.tree / "large")
            newest = self.publish()
        self.up("mirror")
        self.reaches(newest)
        self.assertSame("after it was away")
        self.assertLess(self.control("mirror", "status")[0]["bytes_received"], 500_000)


class Said(Mirroring):
    """What a mirror says of its work on the bus."""

    def test_start_complete_and_fail(self):
        RandomTree(self.tree, 50, 8)
        self.up("origin")
        self.up("mirror")
        tail = self.tail(self.listen_config("mirror"), "--since", "start")
        version = self.publish()
        self.reaches(version)
        (self.copy / "not signed").write_text("by somebody else")
        found = self.control("mirror", "verify", tree="t")
        self.assertEqual((found["equal"], found["repaired"]), (False, False))

        def said():
            return [(event["topic"].rpartition(".")[2], event["body"]["from"], event["body"]["to"])
                    for event in tail.events if ".mirror.sync.t." in event["topic"]]

        until("all is said", lambda: len(said()) >= 3)
        self.assertEqual(said(), [("start", 0, version), ("complete", 0, version), ("fail", version, version)])


if __name__ == "__main__":
    main(sys.argv)
