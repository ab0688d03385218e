"""A bus-mirrord with one tree that is a mirror, and a bus-tail beside it: what it is fed, what it says."""
import json
import pathlib
import queue
import re
import shutil
import socket
import subprocess
import tempfile
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from world import has_address_sanitizer, until  # noqa: E402
from hostile_publisher import BASE, Bus, Key, Stream  # noqa: E402

TREE = "t"
TOPIC = f"{BASE}.mirror.tree.{TREE}.update"
MAX_MEMORY = 400 << 20  # bytes resident at the peak; a pack's frames may have 128 MiB

CONFIG = """
[bus]
prefix = "org.example"
environment = "dev"
publisher = "victim@example.org"
state = "{dir}/state"
publish = "ipc://{dir}/victim-publish"
serve = "ipc://{dir}/victim-serve"
log_level = "info"
durability = "off"
[signing]
scheme = "none"
[trust]
home = "{dir}/trust"
{rules}
[discovery]
static = [{sources}]
[http]
listen = "127.0.0.1:0"
[[tree]]
name = "t"
path = "{dir}/place/tree"
work = "{dir}/work"
owner = "none"
origin = "{origin}"
{tree}
"""
RULE = '[[trust.allow]]\ntopics = ["{topics}"]\nkeys = ["openpgp:{key}"]\n'


class Victim:
    """Everything is in a directory of its own. `close` also after a failed start."""

    def __init__(self, mirrord, tail, *, origin, rules, buses=1, command=(), tree=""):
        """`rules`: (topics, in the keyring?) by key name; a key without topics is in no rule. `tail` may be
        None. `buses`: how many endpoints there are to publish at; each has a budget of its own. `tree`: more
        lines of the tree's configuration."""
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="mirrorbus-fault-", dir="/tmp"))
        self.processes, self.buses = [], []
        try:
            self.start(mirrord, tail, origin, rules, buses, list(command), tree)
        except BaseException:
            self.close()
            raise

    def start(self, mirrord, tail, origin, rules, buses, command, tree):
        (self.dir / "place").mkdir()
        (self.dir / "trust").mkdir(mode=0o700)
        self.keys = {name: Key(self.dir / "keys", name) for name in rules}
        for name, (topics, in_keyring) in rules.items():
            if in_keyring:
                self.keys[name].export_to(self.dir / "trust")
        text = "".join(
            RULE.format(topics=topics, key=self.keys[name].fingerprint)
            for name, (topics, _) in rules.items() if topics
        )
        streams = {}
        for i in range(buses):
            self.buses.append(Bus(f"ipc://{self.dir}/p{i}", f"ipc://{self.dir}/s{i}", streams))
        sources = ", ".join(f'{{ publish = "{b.publish}", serve = "{b.serve}" }}' for b in self.buses)
        self.config = self.dir / "victim.toml"
        self.config.write_text(CONFIG.format(dir=self.dir, rules=text, origin=origin, sources=sources,
                                              tree=tree))
        self.command = [*command, mirrord, "--config", self.config]
        with open(self.dir / "log", "wb") as log:
            self.process = subprocess.Popen(self.command, stderr=log)
            self.processes.append(self.process)
            self.events = queue.Queue()
            if tail:
                tailing = subprocess.Popen(
                    [tail, "--config", self.config, "--json", "--since", "start"],
                    stdout=subprocess.PIPE, stderr=log, text=True,
                )
                self.processes.append(tailing)
                threading.Thread(target=self.read_tail, args=[tailing], daemon=True).start()
        until(self.log, self.answers)
        self.http_port = self.ask("info")["http_port"]
        for bus in self.buses:
            bus.wait_for_subscriptions(b"\1", 2 if tail else 1)
            bus.wait_for_subscriptions(TOPIC.encode() + b"\0", 1)

    def restart(self):
        """The daemon alone; nobody has spoken to it yet."""
        self.process.terminate()
        self.process.wait(20)
        self.processes.remove(self.process)
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(self.command, stderr=log)
        self.processes.append(self.process)
        until(self.log, self.answers)
        self.http_port = self.ask("info")["http_port"]

    def close(self):
        for process in self.processes:
            process.terminate()
        self.exit_codes = [process.wait(20) for process in self.processes]
        for process in self.processes:
            if process.stdout:
                process.stdout.close()
        for bus in self.buses:
            bus.stopping.set()
        for bus in self.buses:
            bus.close()
        for home in ("keys", "trust"):
            subprocess.run(["gpgconf", "--homedir", self.dir / home, "--kill", "all"], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def read_tail(self, process):
        for line in process.stdout:
            self.events.put(json.loads(line))

    def log(self):
        return (self.dir / "log").read_text(errors="replace")[-4000:]

    # -- what it says --

    def ask(self, verb, timeout=30, **arguments):
        """The control socket (control.md)."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(str(self.dir / "state/control.sock"))
            connection.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            answer = json.loads(connection.makefile().readline())
        if "error" in answer:
            raise RuntimeError(f"{verb}: {answer['error']}")
        return answer["ok"]

    def answers(self):
        try:
            return self.ask("info")
        except (FileNotFoundError, ConnectionRefusedError):  # not there, or not listening yet
            return None

    def status(self):
        return self.ask("status")[0]

    def metrics(self):
        """{'name{label="value"}': number}"""
        with socket.create_connection(("127.0.0.1", self.http_port), timeout=20) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n")
            text = connection.makefile().read()
        return {m[1]: float(m[2]) for m in re.finditer(r"^(mirrorbus_\S+) (\S+)$", text, re.M)}

    def refused(self):
        """{reason: count}"""
        found = {}
        for name, value in self.metrics().items():
            if match := re.fullmatch(r'mirrorbus_refused_total\{reason="(\w+)"\}', name):
                found[match[1]] = int(value)
        return found

    def peak_memory(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024

    def is_fine(self):
        """Alive, its loop turning, its memory bounded."""
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log()}"
        assert self.peak_memory() < MAX_MEMORY, f"{self.peak_memory()} bytes at the peak"
        self.ask("info")

    # -- who speaks to it --

    def stream(self, key, publisher, bus, **credential):
        """A stream with a credential, which nobody has been told of yet."""
        stream = Stream(bus, self.keys[key], publisher)
        stream.use(stream.document(**credential))
        return stream

    def join(self, *streams):
        """Announces the streams and speaks of them until the daemon follows each."""

        def joined():
            metrics = self.metrics()
            label = 'mirrorbus_head_age_seconds{{publisher="{}"}}'
            ages = [metrics.get(label.format(s.publisher), 0) for s in streams]
            # Again, if too many credentials were being checked; and who has joined must not grow old
            # while others do: ages are told once a second, and all are to be young at once.
            for stream, age in zip(streams, ages):
                if not 0 < age < 2:
                    stream.announce()
                    stream.bus.send(stream.head())
            return all(0 < age < 5 for age in ages)

        until(self.log, joined, pause=0.2)
