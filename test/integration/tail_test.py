#!/usr/bin/python3
"""bus-tail's filters, its ends, and how it looks on a terminal."""
import datetime
import json
import os
import pathlib
import pty
import shutil
import subprocess
import sys

from world import ENVIRONMENT, World, free_ports, main, until

def commands_with(text):
    """Which processes have this in their command line."""
    found = []
    for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text in file.read_text(errors="replace"):
                found.append(file.parent.name)
        except OSError:
            pass  # it has ended
    return found


class TailTool(World):
    def run_tail(self, listen, *arguments, code=0):
        done = subprocess.run(
            [self.programs["bus-tail"], "--config", listen, "--json", *arguments], capture_output=True,
            text=True, env=ENVIRONMENT, check=False, timeout=60,
        )
        self.assertEqual(done.returncode, code, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def log(self, config, *bodies):
        done = self.logger(config, "--json-input", text="".join(json.dumps(body) + "\n" for body in bodies))
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_filters(self):
        for name in ("one", "two"):
            config = self.relay_config(name)
            self.relay(config, name)
            self.log(config, {"job": {"state": "done", "steps": [1, 2.5]}, "host": name},
                     {"job": {"state": "failed", "ok": False}, "host": name}, {"job": "done", "text": "a=b"})
        listen = self.listen_config("one", "two")

        def seen(*arguments, count):
            """As (publisher, n of the body): a count that is not reached would end it with 1."""
            shell = ["--since", "start", "--topic", "org.example.dev.shell.**", "--timeout", "30"]
            events = self.run_tail(listen, *shell, *arguments, "--count", str(count))
            return sorted((e["publisher"].partition("@")[0], e["seq"]) for e in events)

        self.assertEqual(seen(count=6), [(name, seq) for name in ("one", "two") for seq in (2, 3, 4)])
        self.assertEqual(seen("--publisher", "o*@test.*", count=3), [("one", seq) for seq in (2, 3, 4)])
        for test, seq in (("job.state=done", 2), ("job.steps.1=2.5", 2), ("job.ok=false", 3), ("text=a=b", 4),
                          ("job=done", 4)):
            self.assertEqual(seen("--where", test, count=2), [("one", seq), ("two", seq)])
        self.assertEqual(seen("--where", "job.state=failed", "--where", "host=two", count=1), [("two", 3)])
        # Nothing has both, nor an item that is not there: it comes to its end all the same.
        for tests in (["job.state=done", "job.state=failed"], ["job.steps.2=1"]):
            where = [word for test in tests for word in ("--where", test)]
            self.assertEqual(self.run_tail(listen, "--since", "start", "--until", "@1", *where), [])
            self.assertEqual(self.run_tail(listen, "--since", "start", "--timeout", "3", *where), [])

    def test_until_a_time(self):
        config = self.relay_config()
        self.relay(config)
        self.log(config, *({"n": n} for n in range(3)))
        listen = self.listen_config("relayd")
        self.log(config, {"n": 3})
        heard = self.run_tail(listen, "--since", "start", "--count", "5", "--timeout", "30")
        seconds = [datetime.datetime.fromisoformat(e["time"][:26]).replace(tzinfo=datetime.UTC).timestamp()
                   for e in heard]
        for ends, kept in ((f"@{(seconds[3] + seconds[4]) / 2:.6f}", 4), ("@1", 0), ("2026-01-01T12:00", 0)):
            events = self.run_tail(listen, "--since", "start", "--until", ends)
            self.assertEqual(events, heard[:kept])
        events = self.run_tail(listen, "--since", "start", "--until", "2100-01-01", "--timeout", "3")
        self.assertEqual(len(events), 5)
        for wrong in (["--until", "soon"], ["--until", "2026-01-01", "--cursor", self.dir / "cursor"],
                      ["--where", "no value"], ["--where", "a..b=c"], ["--no-verify", "--publisher", "x"]):
            self.assertEqual(self.run_tail(listen, *wrong, code=2), [])

    def test_a_gpg_that_hangs_holds_up_neither_events_nor_the_cursor_nor_the_end(self):
        """It waits for a keyring that nobody writes, as it would for a lock that nobody lets go."""
        send = self.relay_config()
        self.relay(send)
        trusted, cursor = self.dir / "trusted", self.dir / "cursor"
        trusted.mkdir(mode=0o700)
        keyring = trusted / "pubring.kbx"
        shutil.copy(self.home / "pubring.kbx", keyring)
        listen = self.listen_config("relayd")
        listen.write_text(listen.read_text().replace(str(self.home), str(trusted)))
        tail = self.tail(listen, "--since", "start", "--cursor", cursor)

        def written():
            return [file.read_bytes() for file in sorted(self.dir.glob("cursor*"))]
        self.publish(send, 1)
        until("the first event comes", tail.seqs)

        read = keyring.rename(trusted / "away")
        os.mkfifo(keyring)
        self.addCleanup(self.let_go, keyring, read)
        until("gpg hangs", lambda: commands_with(f"--homedir\0{trusted}\0"))
        before = written()
        self.publish(send, 5)
        until("the others come", lambda: len(tail.seqs()) == 6)
        until("the cursor is written", lambda: written() != before)
        tail.end()
        self.assertEqual(tail.process.returncode, 0)

    def let_go(self, keyring, read):
        """Until no gpg waits for it any more; the next ones find the one that can be read."""
        waited_for = keyring.rename(keyring.with_name("waited_for"))
        read.rename(keyring)

        def ended():
            try:
                os.close(os.open(waited_for, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                pass  # nobody has it open
            return not commands_with(f"--homedir\0{keyring.parent}\0")
        until("no gpg waits", ended)

    def test_a_cursor_and_a_count_leave_nothing_out(self):
        config = self.relay_config()
        self.relay(config)
        self.publish(config, 20)
        listen = self.listen_config("relayd")
        seqs = []
        for _ in range(3):
            cursor = ["--since", "start", "--cursor", self.dir / "cursor"]
            events = self.run_tail(listen, *cursor, "--count", "5", "--timeout", "30")
            seqs += [e["seq"] for e in events]
        self.assertEqual(seqs, list(range(1, 16)))

    def on_a_terminal(self, command, which, enough, **environment):
        """What it writes there until that is `enough`; its other output goes nowhere."""
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, which: slave}
        process = subprocess.Popen(command, **streams, env={**ENVIRONMENT, "TERM": "xterm", **environment})
        self.addCleanup(self.end, process)
        os.close(slave)
        text = b""
        while enough not in text:
            text += os.read(master, 4096)  # EIO if it has ended: a failure
        return text

    def test_colours_on_a_terminal_only(self):
        config = self.relay_config()
        self.relay(config)
        self.publish(config, 1)
        command = [self.programs["bus-tail"], "--config", self.listen_config("relayd"), "--since", "start"]
        self.assertIn(b"\x1b[", self.on_a_terminal(command, "stdout", b"event 0"))
        self.assertIn(b"\x1b[", self.on_a_terminal([*command, "--pretty"], "stdout", b"event 0"))
        self.assertNotIn(b"\x1b", self.on_a_terminal([*command, "--json"], "stdout", b"event 0"))
        self.assertNotIn(b"\x1b", self.on_a_terminal(command, "stdout", b"event 0", NO_COLOR="1"))
        self.assertNotIn(b"\x1b", self.on_a_terminal(command, "stdout", b"event 0", TERM="dumb"))
        piped = subprocess.run([*command, "--count", "2"], capture_output=True, env=ENVIRONMENT, check=True)
        self.assertNotIn(b"\x1b", piped.stdout + piped.stderr)

    def test_progress_while_it_is_behind(self):
        """The source named first does not answer: there is time to be seen behind."""
        (dead,) = free_ports(1)
        config = self.relay_config(bus=f'advertise_serve = "tcp://127.0.0.1:{dead}"')
        self.relay(config)
        self.publish(config, 10)
        command = [self.programs["bus-tail"], "--config", self.listen_config("relayd"), "--since", "start"]
        self.on_a_terminal(command, "stderr", b"\r\x1b[Kcatching up: 11 events to go\r\x1b[K")

if __name__ == "__main__":
    main(sys.argv)
