"""Origins and mirrors as real daemons with a tree that changes, and the account of what faults did to it."""
import dataclasses
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from mirroring import Mirroring, RandomTree  # noqa: E402
from world import free_ports, has_address_sanitizer, main, until  # noqa: E402,F401

SEED = int(os.environ.get("MIRRORBUS_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)


def setting(name, default):
    return int(os.environ.get(f"MIRRORBUS_{name}", default))


@dataclasses.dataclass
class TreeAccount:
    """One row of the second table of docs/faults.md."""

    name: str
    runs: int = 0
    versions: int = 0  # acknowledged by the origin while or after the fault was there
    lost: int = 0  # of them: the mirror did not come to it
    wrong: int = 0  # times that rsync found the mirror's tree to be another one
    worst: float = 0.0  # recovery, in seconds: docs/faults.md
    more: str = ""
    complaints: list = dataclasses.field(default_factory=list)

    def recovered(self, seconds):
        self.worst = max(self.worst, seconds)

    def line(self):
        return (f"tree fault {self.name}: runs={self.runs} versions={self.versions} lost={self.lost} "
                f"wrong={self.wrong} worst_recovery={self.worst:.1f} s {self.more}").rstrip()

    def close(self, case):
        print(self.line(), flush=True)
        case.assertEqual(self.complaints, [])


class FaultyTrees(Mirroring):
    """`up()` starts the daemons; `account()` makes a row that is printed and held to when the test ends."""

    entries = 400

    def setUp(self):
        super().setUp()
        print(f"seed {SEED}", flush=True)
        self.chance = random.Random(f"{SEED} {self.id()}")

    def fill(self, entries=None):
        self.content = RandomTree(self.tree, entries or self.entries, self.chance.randrange(2**31))

    def both(self, entries=None):
        """Both are up and have the first version."""
        if not self.tree.exists():
            self.fill(entries)
        self.up("origin")
        self.up("mirror")
        self.reaches(self.publish())
        self.assertSame("after the first sync")

    def edit_config(self, name, old, new):
        path = self.dir / f"{name}.toml"
        text = path.read_text()
        self.assertIn(old, text)
        path.write_text(text.replace(old, new))

    def status(self, name="mirror"):
        """Of the one tree; empty while the daemon cannot be asked."""
        said = self.control(name, "status")
        return said[0] if said else {}

    def ask(self, name, verb, timeout=120, **request):
        """The whole answer, also one that is an error."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            s.connect(str(self.dir / name / "control.sock"))
            s.sendall(json.dumps({"verb": verb, **request}).encode() + b"\n")
            with s.makefile() as answers:
                return json.loads(answers.readline())

    def until_status(self, what, condition, name="mirror", timeout=60):
        """Waits until `condition` holds of the status, and gives that."""

        def shown():
            said = self.status(name)
            return said if said and condition(said) else None

        return until(lambda: f"{what}: {self.status(name)}", shown, timeout)

    def at_rest(self, version, timeout=60):
        return self.until_status(
            f"the mirror is current at {version}",
            lambda s: s["version"] >= version and s["state"] == "current", timeout=timeout,
        )

    def until_at(self, account, version, since, timeout=120):
        """The mirror comes to `version`, whole; the time since `since` is a recovery."""
        try:
            self.at_rest(version, timeout)
        except AssertionError as error:
            account.lost += 1
            account.complaints.append(str(error))
            return
        account.recovered(time.monotonic() - since)

    def compare(self, account, when):
        try:
            self.assertSame(when)
        except AssertionError as error:
            account.wrong += 1
            account.complaints.append(str(error))


MIRROR = """
[discovery]
static = [{{ publish = "{publish}", serve = "{serve}" }}]
[[tree]]
name = "t"
path = "{path}"
role = "mirror"
max_delete = 1000000
source = [{source}]
{more}
"""


class ManyMirrors(FaultyTrees):
    """An origin that is up and has published, and mirrors by name. What it says of its own addresses leads
    nowhere: there are only the ways that a test makes."""

    entries = 150

    def setUp(self):
        super().setUp()
        self.content_port = free_ports(1)[0]
        self.edit_config("origin", '"127.0.0.1:0"\n[[tree]]', f'"127.0.0.1:{self.content_port}"\n[[tree]]')
        self.edit_config(
            "origin", 'log_level = "info"',
            f'log_level = "info"\nadvertise_publish = "ipc://{self.dir}/nowhere"\n'
            f'advertise_serve = "ipc://{self.dir}/nowhere-either"\nadvertise_content = "http://127.0.0.1:1"',
        )
        self.direct = {
            "publish": f"ipc://{self.dir}/origin.publish", "serve": f"ipc://{self.dir}/origin.serve",
            "content": f"tcp://127.0.0.1:{self.content_port}",
        }
        self.copies = {}

    def begin(self):
        self.fill()
        self.up("origin")
        self.newest = self.publish()

    def mirror(self, name, sources=None, more="", bus="", path=None, **ways):
        """`ways`: other endpoints than the origin's own, by port. `sources`: content endpoints, else that
        way. `path`: of its tree, where that is not beside its state."""
        ways = self.direct | ways
        sources = sources or [ways["content"]]
        (self.dir / name).mkdir()
        self.copies[name] = path or self.dir / name / "tree"
        source = ", ".join(f'"{s.replace("tcp://", "http://")}"' for s in sources)
        self.config(name, MIRROR.format(path=self.copies[name], source=source, more=more, **ways),
                    bus=bus, state=f"{name}/state")
        self.start_mirror(name)

    def start_mirror(self, name):
        self.running[name] = self.start("bus-mirrord", self.dir / f"{name}.toml", name)

    def status(self, name="mirror"):
        return super().status(name if name == "origin" else f"{name}/state")

    def whole(self, name, version, timeout=150):
        return self.until_status(
            f"{name} is whole at {version}",
            lambda s: s["version"] >= version and s["state"] in ("current", "stale"), name, timeout)

    def compare_with(self, account, name, when):
        self.copy = self.copies[name]
        self.compare(account, when)


def resident_kib(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError(f"{process.pid} has no memory")


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout
