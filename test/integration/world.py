"""A small bus in a directory of its own: keys, daemons and tools, started and ended as a test needs."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from ports import free_ports  # noqa: F401, of which most worlds need some

ENVIRONMENT = {**os.environ, "LC_ALL": "C"}
COMMON = """
[bus]
prefix = "org.example"
environment = "dev"
publisher = "{name}@test.example.org"
state = "{dir}/{state}"
publish = "{publish}"
serve = "{serve}"
log_level = "info"
{bus}
[signing]
scheme = "openpgp"
key = "{key}"
home = "{home}"
[trust]
home = "{home}"
[[trust.allow]]
topics = ["org.example.dev.**"]
keys = ["{key}"]
[http]
listen = "127.0.0.1:0"
"""
RELAY = """
[relay]
submit = ["ipc://{dir}/{name}.submit"]
connect = "ipc://{dir}/{name}.submit"
[[relay.allow]]
from = "ipc"
topics = ["org.example.dev.shell.**"]
"""

def until(what, condition, timeout=60, pause=0.02):
    """Waits for `condition` to give something true, and gives it. `what`: to be said if it does not
    come; text, or a function that gives the text then."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {timeout} s: {what() if callable(what) else what}")
        time.sleep(pause)
    return found

def make_key(home, name, become=()):
    """The fingerprint of a new key in a GnuPG home that is there, made as whom `become` makes us."""
    gpg = [*become, "gpg", "--homedir", home, "--batch", "--quiet"]
    subprocess.run(
        [*gpg, "--passphrase", "", "--quick-gen-key", name, "ed25519", "sign", "1y"],
        check=True, capture_output=True,
    )
    listed = subprocess.run(
        [*gpg, "--with-colons", "--list-secret-keys"], check=True, capture_output=True, text=True
    ).stdout
    return next(line for line in listed.splitlines() if line.startswith("fpr:")).split(":")[9]

def end_agent(home, become=()):
    subprocess.run([*become, "gpgconf", "--homedir", home, "--kill", "all"], check=False)

class Tail(threading.Thread):
    """A bus-tail, and what it has printed. `pause`: seconds it takes its reader to see to one event."""

    def __init__(self, command, log, pause=0.0):
        super().__init__(daemon=True)
        self.events, self.gaps, self.at = [], [], []
        self.pause = pause
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=ENVIRONMENT
        )
        self.start()

    def run(self):
        for line in self.process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                break  # cut off by a kill
            if "gap" in said:
                self.gaps.append(said["gap"])
            else:
                self.events.append(said)
                self.at.append(time.time())
                if self.pause:
                    time.sleep(self.pause)  # this is the slowness itself

    def seqs(self, topic=None):
        """(epoch, seq) of what was sent through a relay, or under one topic."""
        topic = topic or "org.example.dev.shell."
        return [(e["epoch"], e["seq"]) for e in self.events if e["topic"].startswith(topic)]

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(30)
        self.join(30)
        self.process.stdout.close()

class World(unittest.TestCase):
    """What the tests of whole daemons share; `programs` is set by each file's main()."""

    programs = {}

    @classmethod
    def setUpClass(cls):
        # A socket's path must be short: not below $TMPDIR.
        cls.home = pathlib.Path(tempfile.mkdtemp(prefix="mirrorbus-world-", dir="/tmp"))
        cls.addClassCleanup(shutil.rmtree, cls.home, ignore_errors=True)
        cls.addClassCleanup(end_agent, cls.home)
        cls.key = make_key(cls.home, "bus@example.org")

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="mirrorbus-world-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def run(self, result=None):
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > before:
            print(f"--- {self.id()}: the ends of the logs\n{self.logs}", flush=True)
        return result

    logs = ""

    def keep_logs(self):
        self.logs = "".join(
            f"{log.name}:\n" + "".join(log.read_text(errors="replace").splitlines(True)[-12:])
            for log in sorted(self.dir.glob("*.log"))
        )

    # ---- configuration ----

    def config(self, name, more="", bus="", publish=None, serve=None, state=None, file=None):
        path = self.dir / f"{file or name}.toml"
        path.write_text(
            COMMON.format(
                dir=self.dir, name=name, home=self.home, key=self.key, bus=bus, state=state or file or name,
                publish=publish or f"ipc://{self.dir}/{file or name}.publish",
                serve=serve or f"ipc://{self.dir}/{file or name}.serve",
            )
            + more
        )
        return path

    def relay_config(self, name="relayd", more="", **settings):
        return self.config(name, RELAY.format(dir=self.dir, name=name) + more, **settings)

    def listen_config(self, *names, resolver=None):
        """For a tail: static endpoints of these daemons, or DNS."""
        path = self.dir / "listen.toml"
        endpoints = ", ".join(
            f'{{ publish = "ipc://{self.dir}/{n}.publish", serve = "ipc://{self.dir}/{n}.serve" }}'
            for n in names
        )
        where = (
            f'domains = ["example.org"]\nresolvers = ["127.0.0.1:{resolver}"]'
            if resolver else f"static = [{endpoints}]"
        )
        path.write_text(
            f'[bus]\nprefix = "org.example"\nenvironment = "dev"\n[discovery]\n{where}\n[trust]\n'
            f'home = "{self.home}"\n[[trust.allow]]\ntopics = ["org.example.dev.**"]\nkeys = ["{self.key}"]\n'
        )
        return path

    # ---- processes ----

    def start(self, program, config, log):
        with open(self.dir / f"{log}.log", "a", encoding="utf-8") as out:
            process = subprocess.Popen(
                [self.programs.get(program, program), "--config", config], stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, env=ENVIRONMENT,
            )
        self.addCleanup(self.end, process)
        return process

    def end(self, process, how=signal.SIGTERM):
        self.keep_logs()
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
        return process.wait(30)

    def control(self, state, verb, **request):
        """The daemon's answer on its control socket, or nothing if it cannot be asked."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20)
            try:
                s.connect(str(self.dir / state / "control.sock"))
                s.sendall(json.dumps({"verb": verb, **request}).encode() + b"\n")
                with s.makefile() as answers:
                    return json.loads(answers.readline()).get("ok")
            except (OSError, ValueError):
                return None

    def ready(self, state):
        def good():
            info = self.control(state, "info")
            return info and not info["problems"] and info
        return until(f"{state} is ready", good)

    def relay(self, config, state="relayd"):
        process = self.start("bus-relayd", config, state)
        self.ready(state)
        return process

    def tail(self, config, *arguments, log="tail", pause=0.0):
        with open(self.dir / f"{log}.log", "a", encoding="utf-8") as out:
            tail = Tail(
                [self.programs["bus-tail"], "--config", config, "--json", "--verbose", *arguments], out, pause
            )
        self.addCleanup(self.end_tail, tail)
        return tail

    def end_tail(self, tail, how=signal.SIGTERM):
        self.keep_logs()
        if tail.process.poll() is None:
            tail.process.send_signal(signal.SIGCONT)
            tail.end(how)

    def logger(self, config, *arguments, text=None, timeout=60):
        return subprocess.run(
            [self.programs["bus-logger"], "--config", config, "--timeout", str(timeout), *arguments],
            input=text, capture_output=True, text=True, env=ENVIRONMENT, check=False,
        )

    def publish(self, config, count, size=0):
        """The seqs that were acknowledged."""
        text = "".join(f"event {i} {'x' * size}\n" for i in range(count))
        done = self.logger(config, "--json", text=text)
        self.assertEqual(done.returncode, 0, done.stderr)
        return sorted(json.loads(line)["seq"] for line in done.stdout.splitlines())

    # ---- looking ----

    def said(self, log, pattern):
        return re.search(pattern, (self.dir / f"{log}.log").read_text(errors="replace"))

    def metric(self, state, name):
        info = self.control(state, "info")
        with socket.create_connection(("127.0.0.1", info["http_port"]), 20) as s:
            s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            with s.makefile() as page:
                return next((float(line.split()[-1]) for line in page if line.startswith(name)), None)

    def assertOnceInOrder(self, seqs):
        for before, after in zip(seqs, seqs[1:]):
            self.assertLess(before, after, "twice or out of order")

def has_address_sanitizer(program):
    """Then libfaketime cannot be preloaded beside it."""
    return "libasan" in subprocess.check_output(["ldd", program], text=True)

def peak_memory_kib(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])

def main(argv):
    """`argv`: a program's path for each name that a test uses, NAME=PATH, and unittest's own."""
    World.programs = dict(a.split("=", 1) for a in argv[1:] if "=" in a)
    unittest.main(module="__main__", argv=[argv[0], *(a for a in argv[1:] if "=" not in a)], verbosity=2)
