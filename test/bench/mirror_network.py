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

for folder in "integration", "fault":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / folder))
import namespaces  # noqa: E402
from world import end_agent, free_ports, make_key  # noqa: E402


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, **options)


def output(*command):
    return run(*command, stdout=subprocess.PIPE).stdout


def network_bytes():
    """Both ways, of all that is sent here: on lo what one end sends the other receives, and what goes to and comes
    from other hosts. What one host sends another counts on both ways."""
    with open("/proc/net/dev", encoding="ascii") as table:
        lines = (line.partition(":") for line in table)
        numbers = {name.strip(): [int(number) for number in rest.split()] for name, colon, rest in lines if colon}
    received, sent = 0, 8
    return numbers["lo"][received] + sum(
        each[received] + each[sent] for name, each in numbers.items() if name.startswith("host"))


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


def alone_on_the_network(*also):
    """From here on in a network namespace with nothing but a loopback interface. `also`: as unshare has them."""
    if os.geteuid() == 0 and "BENCH_ALONE" not in os.environ:
        os.environ["BENCH_ALONE"] = "yes"
        os.execvp("unshare", ["unshare", "--net", *also, "bash", "-c", 'ip link set lo up && exec "$@"', "bash",
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
        self.address, self.inside = network.address, []
        self.how = "manual"  # or "auto"
        self.process = None

    def move_to(self, host):
        self.address, self.inside = host.there, host.inside

    def write(self, everyone):
        sources = ", ".join(
            f'{{ publish = "tcp://{d.address}:{d.publish}", serve = "tcp://{d.address}:{d.serve}" }}' for d in everyone)
        content = f'[content]\nlisten = "{self.address}:{self.content}"\n' if self.role == "origin" else ""
        with open(self.config, "w", encoding="utf-8") as config:
            config.write(f"""[bus]
prefix = "org.example"
environment = "dev"
publisher = "mirrord@{self.name}.example.org"
state = "{self.state}"
publish = "tcp://{self.address}:{self.publish}"
serve = "tcp://{self.address}:{self.serve}"
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
        self.process = subprocess.Popen(
            [*self.inside, f"{self.network.build}/services/mirror/bus-mirrord", "--config", self.config],
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

    def __init__(self, network, path):
        (port,) = free_ports(1)
        self.hosts = network.hosts
        config = f"{network.work}/rsyncd-{port}.conf"
        with open(config, "w", encoding="ascii") as file:
            file.write(f"uid = root\ngid = root\nuse chroot = no\nport = {port}\naddress = {network.address}\n"
                       f"log file = {network.work}/rsyncd.log\n[tree]\npath = {path}\nread only = yes\n")
        self.url = f"rsync://{network.address}:{port}/tree/"
        self.process = subprocess.Popen(["rsync", "--daemon", "--no-detach", f"--config={config}"])
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex((network.address, port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("the rsync daemon does not start")

    def children_cpu(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def clients(self, *targets):
        """All at once, each on a host of its own if there are any. Wall seconds, bytes both ways, CPU seconds of the
        server."""
        inside = [host.inside for host in self.hosts] or [[] for _ in targets]
        before_bytes, before_cpu = network_bytes(), self.children_cpu()
        start = time.monotonic()
        running = [subprocess.Popen([*where, "rsync", "-aH", "--delete", self.url, f"{target}/"])
                   for where, target in zip(inside, targets)]
        if any(client.wait() for client in running):
            raise RuntimeError("rsync failed")
        seconds = time.monotonic() - start
        time.sleep(0.2)  # the server's children are reaped
        return seconds, network_bytes() - before_bytes, self.children_cpu() - before_cpu

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Network:
    """A folder with keys and daemons, which end when it is closed. The folder goes when the bench ends: on ext4
    files are made many times more slowly for a minute after many were deleted. `hosts`: so many for mirrors, each
    with an address of its own, and one network to all of them; else all is at one address."""

    def __init__(self, build, where, keep=False, hosts=0):
        self.build, self.keep = os.path.abspath(build), keep
        self.address, self.hosts = "127.0.0.1", []
        if hosts:
            self.address = "10.77.0.1"
            run("ip", "address", "replace", f"{self.address}/32", "dev", "lo")
            for number in range(1, hosts + 1):
                host = namespaces.Host(number)
                self.hosts.append(host)
                run(*host.inside, "ip", "route", "add", "default", "via", host.here)
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
        self.servers.append(RsyncServer(self, path))
        return self.servers[-1]

    def close(self):
        for each in self.daemons + self.servers:
            each.stop()
        for host in self.hosts:
            host.close()
        end_agent(self.gnupg)
        if self.keep:
            print("kept in", self.work)
        else:
            atexit.register(subprocess.run, ["rm", "-rf", *self.folders], check=False)
