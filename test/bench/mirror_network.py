"""What the benches of trees have in common: an origin and its mirrors as real daemons, an rsync daemon
beside them, a network of their own, and counters of bytes, processor time and memory."""
import atexit
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from world import end_agent, free_ports, make_key  # noqa: E402


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, **options)


def output(*command):
    return run(*command, stdout=subprocess.PIPE).stdout


def loopback_bytes():
    """Received on lo: what one end sends the other receives, so this counts both directions."""
    with open("/proc/net/dev", encoding="ascii") as table:
        for line in table:
            name, _, numbers = line.partition(":")
            if name.strip() == "lo":
                return int(numbers.split()[0])
    raise RuntimeError("no loopback interface")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_mb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0


def alone_on_the_network():
    """From here on in a network namespace with nothing but a loopback interface."""
    if os.geteuid() == 0 and "BENCH_ALONE" not in os.environ:
        os.environ["BENCH_ALONE"] = "yes"
        os.execvp("unshare", ["unshare", "--net", "bash", "-c", 'ip link set lo up && exec "$@"', "bash",
                              sys.executable, *sys.argv])


def disk_bytes(*paths):
    """Allocated bytes, an inode counted once."""
    lines = output("du", "-sc", "-B1", *paths).splitlines()
    return int(lines[-1].split()[0])


def differences(one, other):
    """What rsync would do to make the second tree the first, and the first the second."""
    return "".join(output("rsync", "-naHAXc", "-@-1", "--delete", "--itemize-changes", f"{a}/", f"{b}/")
                   for a, b in ((one, other), (other, one)))


class Daemon:
    def __init__(self, network, name, role, path, more=""):
        self.network, self.name, self.more = network, name, more
        self.state = f"{network.work}/{name}"
        self.config = f"{network.work}/{name}.toml"
        self.publish, self.serve, self.content = free_ports(3)
        self.path = path
        self.role = role
        self.how = "manual"  # or "auto"
        self.process = None

    def write(self, everyone):
        sources = ", ".join(
            f'{{ publish = "tcp://127.0.0.1:{d.publish}", serve = "tcp://127.0.0.1:{d.serve}" }}' for d in everyone)
        content = f'[content]\nlisten = "127.0.0.1:{self.content}"\n' if self.role == "origin" else ""
        with open(self.config, "w", encoding="utf-8") as config:
            config.write(f"""[bus]
prefix = "org.example"
environment = "dev"
publisher = "mirrord@{self.name}.example.org"
state = "{self.state}"
publish = "tcp://127.0.0.1:{self.publish}"
serve = "tcp://127.0.0.1:{self.serve}"
[discovery]
static = [{sources}]
[signing]
scheme = "openpgp"
key = "{self.network.fingerprint}"
home = "{self.network.gnupg}"
[trust]
home = "{self.network.gnupg}"
[[trust.allow]]
topics = ["org.example.**"]
keys = ["{self.network.fingerprint}"]
{content}[[tree]]
name = "bench"
path = "{self.path}"
role = "{self.role}"
publish = "{self.how}"
max_delete = 100000000
{self.more}""")

    def start(self):
        log = open(f"{self.network.work}/{self.name}.log", "w", encoding="utf-8")
        self.process = subprocess.Popen([f"{self.network.build}/services/mirror/bus-mirrord", "--config", self.config],
                                        stdout=log, stderr=log)

    def cpu(self):
        return cpu_seconds(self.process.pid)

    def peak_mb(self):
        return peak_rss_mb(self.process.pid)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()

    def ask(self, *words):
        return json.loads(output(f"{self.network.build}/tools/bus-mirror", "--config", self.config, "--json",
                                 "--timeout", "900", *words))

    def until_it_answers(self):
        for _ in range(600):
            if os.path.exists(f"{self.state}/control.sock"):
                return self
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not start: see {self.network.work}/{self.name}.log")


class RsyncServer:
    """`rsync --daemon` on one tree."""

    def __init__(self, work, path):
        (port,) = free_ports(1)
        config = f"{work}/rsyncd-{port}.conf"
        with open(config, "w", encoding="ascii") as file:
            file.write(f"uid = root\ngid = root\nuse chroot = no\nport = {port}\naddress = 127.0.0.1\n"
                       f"log file = {work}/rsyncd.log\n[tree]\npath = {path}\nread only = yes\n")
        self.url = f"rsync://127.0.0.1:{port}/tree/"
        self.process = subprocess.Popen(["rsync", "--daemon", "--no-detach", f"--config={config}"])
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("the rsync daemon does not start")

    def children_cpu(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def clients(self, *targets):
        """All at once. Wall seconds, bytes both ways, CPU seconds of the server."""
        before_bytes, before_cpu = loopback_bytes(), self.children_cpu()
        start = time.monotonic()
        running = [subprocess.Popen(["rsync", "-aH", "--delete", self.url, f"{target}/"]) for target in targets]
        if any(client.wait() for client in running):
            raise RuntimeError("rsync failed")
        seconds = time.monotonic() - start
        time.sleep(0.2)  # the server's children are reaped
        return seconds, loopback_bytes() - before_bytes, self.children_cpu() - before_cpu

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Network:
    """A folder with keys and daemons, which end when it is closed. The folder goes when the bench ends: on ext4
    files are made many times more slowly for a minute after many were deleted."""

    def __init__(self, build, where, keep=False):
        self.build, self.keep = os.path.abspath(build), keep
        self.work = tempfile.mkdtemp(prefix="tree-bench-", dir=where)
        self.gnupg = f"{self.work}/gnupg"
        os.mkdir(self.gnupg, 0o700)
        self.fingerprint = make_key(self.gnupg, "bench@example.org")
        self.daemons, self.servers, self.folders = [], [], [self.work]

    def folder(self, place):
        """A new one, in `place` if that is given, which goes with the network."""
        made = tempfile.mkdtemp(prefix="tree-bench-", dir=place or self.work)
        self.folders.append(made)
        return made

    def daemon(self, name, role, parent, more=""):
        """Not started yet; its tree is <parent>/tree, in the folder of the network if that says no other."""
        place = os.path.join(self.work, parent)
        os.makedirs(place, exist_ok=True)
        self.daemons.append(Daemon(self, name, role, f"{place}/tree", more))
        return self.daemons[-1]

    def rsync_server(self, path):
        self.servers.append(RsyncServer(self.work, path))
        return self.servers[-1]

    def close(self):
        for each in self.daemons + self.servers:
            each.stop()
        end_agent(self.gnupg)
        if self.keep:
            print("kept in", self.work)
        else:
            atexit.register(subprocess.run, ["rm", "-rf", *self.folders], check=False)
