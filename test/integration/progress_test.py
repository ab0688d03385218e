#!/usr/bin/python3
"""What bus-mirror shows on a terminal while it waits, and where there is none."""
import os
import pty
import signal
import subprocess
import sys
import threading

from mirroring import Mirroring
from world import ENVIRONMENT, main, until


class Terminal:
    """A program on a terminal of its own, and what it has written there."""

    def __init__(self, command):
        self.text = ""
        ours, theirs = pty.openpty()
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=ENVIRONMENT)
        os.close(theirs)
        self.ours = ours
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            while piece := os.read(self.ours, 4096):
                self.text += piece.decode()
        except OSError:  # the other end is closed
            pass

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        self.thread.join(30)
        os.close(self.ours)


class Progress(Mirroring):
    def setUp(self):
        super().setUp()
        self.tree.mkdir(parents=True)
        (self.tree / "first").write_bytes(os.urandom(300_000))
        self.up("origin")
        self.up("mirror")
        self.reaches(self.publish())

    def command(self, *words):
        return [self.programs["bus-mirror"], "--config", self.dir / "mirror.toml", *words]

    def on_a_terminal(self, *words):
        terminal = Terminal(self.command(*words))
        self.addCleanup(terminal.end)
        return terminal

    def test_a_sync_shows_how_far_it_is(self):
        self.control("mirror", "pause", tree="t")
        (self.tree / "second").write_bytes(os.urandom(300_000))
        version = self.publish()
        until("the mirror has heard of it",
              lambda: self.control("mirror", "status")[0]["head_version"] == version)
        # The content does not come before the origin goes on.
        self.running["origin"].send_signal(signal.SIGSTOP)
        self.control("mirror", "resume", tree="t")
        terminal = self.on_a_terminal("sync", "t")
        until(lambda: f"it is shown: {terminal.text!r}",
              lambda: "\r\033[Kfetching   [................]   0% 0 B 0/1" in terminal.text)
        self.assertIsNone(terminal.process.poll())
        self.running["origin"].send_signal(signal.SIGCONT)
        self.assertEqual(terminal.process.wait(60), 0)
        terminal.thread.join(30)
        self.assertTrue(terminal.text.endswith(f"\r\033[K{version}\r\n"), terminal.text)

    def test_a_status_can_be_watched(self):
        terminal = self.on_a_terminal("status", "--watch")
        until("it is shown twice", lambda: terminal.text.count("\033[H\033[J") >= 2)
        for line in terminal.text.replace("\033[H\033[J", "").splitlines():
            self.assertLessEqual(len(line), 80)
        self.assertIn("current", terminal.text)

    def test_without_a_terminal_there_are_only_plain_lines(self):
        watching = subprocess.Popen(self.command("status", "--watch"), stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end, watching, signal.SIGKILL)
        self.addCleanup(watching.stdout.close)
        head, line = watching.stdout.readline(), watching.stdout.readline()
        self.assertTrue(head.startswith("TREE") and line.startswith("t "), head + line)
        done = subprocess.run(self.command("verify", "t"), capture_output=True, text=True, check=True)
        self.assertEqual(done.stderr, "")
        self.assertTrue(done.stdout.startswith("equal: 1 files"), done.stdout)
        (self.copy / "first").write_text("damaged")
        done = subprocess.run(self.command("verify", "t"), capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, "first: is missing or has another content" in done.stdout), (1, True))
        self.assertTrue(self.said("mirror", "verify found"))


if __name__ == "__main__":
    main(sys.argv)
