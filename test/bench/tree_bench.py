#!/usr/bin/python3
"""The tree's main job, measured against rsync in the same run.

  tree_bench.py --build BUILD [--first DIR --second DIR] [--work DIR] [--keep]

An origin holds a copy of the first tree and three mirrors follow it. `rsync -a --delete` then makes
the origin's copy equal to the second tree, and `bus-mirror publish` takes it as a version. Beside it,
`rsync -aH --delete` from an rsync daemon brings a copy of the first tree to the second. Bytes are
those of the loopback interface, both ways, by the kernel's counters; as root the bench moves to a
network namespace of its own, where nobody else's bytes are counted.

Without trees, /usr/include and a copy of it with one file in twenty edited. For the documented figures
the trees are Debian's kernel sources, unpacked:
  apt-get download linux-source-6.1=6.1.170-3 linux-source-6.1=6.1.176-1
"""
import argparse
import json
import os
import pathlib
import shutil
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
    if os.geteuid() == 0 and "TREE_BENCH_ALONE" not in os.environ:
        os.environ["TREE_BENCH_ALONE"] = "yes"
        os.execvp("unshare", ["unshare", "--net", "bash", "-c", 'ip link set lo up && exec "$@"', "bash",
                              sys.executable, *sys.argv])


def edited_copy(tree, copy):
    """What a week does to a tree: every mtime moves, one file in twenty gets another line."""
    run("cp", "-a", tree, copy)
    names = sorted(os.path.join(at, name) for at, _, found in os.walk(copy) for name in found)
    for number, name in enumerate(name for name in names if not os.path.islink(name)):
        if number % 20 == 0:
            with open(name, "ab") as file:
                file.write(b"\n/* edited */\n")
        os.utime(name, (number, 1_700_000_000 + number))


def settled_disk_bytes(*paths):
    """disk_bytes once it has stood still for some seconds: an origin gives space back at leisure."""
    seen = []
    while len(seen) < 4 or len(set(seen[-4:])) > 1:
        seen.append(disk_bytes(*paths))
        time.sleep(2)
    return seen[-1]


def disk_bytes(*paths):
    """Allocated bytes, an inode counted once."""
    lines = output("du", "-sc", "-B1", *paths).splitlines()
    return int(lines[-1].split()[0])


def directory_bytes(top):
    return sum(os.stat(at).st_blocks * 512 for at, _, _ in os.walk(top))


def content_sizes(tree):
    """Content by hash: how many bytes one copy of each has."""
    sums = output("bash", "-c", f"cd '{tree}' && find . -type f -print0 | xargs -0 -P2 -n 500 sha256sum")
    sizes = {}
    for line in sums.splitlines():
        digest, _, name = line.lstrip("\\").partition("  ")
        sizes.setdefault(digest, []).append(name)
    return sizes


class Daemon:
    def __init__(self, bench, name, role, path):
        self.bench, self.name = bench, name
        self.state = f"{bench.work}/{name}"
        self.config = f"{bench.work}/{name}.toml"
        self.publish, self.serve, self.content = free_ports(3)
        self.path = path
        self.role = role
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
key = "{self.bench.fingerprint}"
home = "{self.bench.gnupg}"
[trust]
home = "{self.bench.gnupg}"
[[trust.allow]]
topics = ["org.example.**"]
keys = ["{self.bench.fingerprint}"]
{content}[[tree]]
name = "bench"
path = "{self.path}"
role = "{self.role}"
publish = "manual"
max_delete = 1000000
""")

    def start(self):
        log = open(f"{self.bench.work}/{self.name}.log", "w", encoding="utf-8")
        self.process = subprocess.Popen([f"{self.bench.build}/services/mirror/bus-mirrord", "--config", self.config],
                                        stdout=log, stderr=log)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()

    def ask(self, *words):
        return json.loads(output(f"{self.bench.build}/tools/bus-mirror", "--config", self.config, "--json",
                                 "--timeout", "900", *words))

    def until_it_answers(self):
        for _ in range(600):
            if os.path.exists(f"{self.state}/control.sock"):
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not start: see {self.bench.work}/{self.name}.log")


class Bench:
    def __init__(self, options):
        self.build = os.path.abspath(options.build)
        self.work = tempfile.mkdtemp(prefix="tree-bench-", dir=options.work)
        self.first, self.second = options.first, options.second
        if not self.first:
            self.first, self.second = "/usr/include", f"{self.work}/edited"
            edited_copy(self.first, self.second)
        self.gnupg = f"{self.work}/gnupg"
        self.rows = []
        os.mkdir(self.gnupg, 0o700)
        self.fingerprint = make_key(self.gnupg, "bench@example.org")
        self.daemons = []
        self.rsyncd = None

    def note(self, what, value, versus=""):
        self.rows.append((what, value, versus))
        print(f"{what:<52} {value:>16}  {versus}", flush=True)

    def start_rsyncd(self, path):
        (port,) = free_ports(1)
        config = f"{self.work}/rsyncd.conf"
        with open(config, "w", encoding="ascii") as file:
            file.write(f"uid = root\ngid = root\nuse chroot = no\nport = {port}\naddress = 127.0.0.1\n"
                       f"log file = {self.work}/rsyncd.log\n[tree]\npath = {path}\nread only = yes\n")
        self.rsyncd = subprocess.Popen(["rsync", "--daemon", "--no-detach", f"--config={config}"])
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return f"rsync://127.0.0.1:{port}/tree/"
            time.sleep(0.05)
        raise RuntimeError("the rsync daemon does not start")

    def rsync_once(self, url, target):
        """Wall seconds, bytes both ways, CPU seconds of the server's children."""
        before_bytes = loopback_bytes()
        before_cpu = self.children_cpu()
        start = time.monotonic()
        run("rsync", "-aH", "--delete", url, target + "/")
        seconds = time.monotonic() - start
        time.sleep(0.2)  # the server's child is reaped
        return seconds, loopback_bytes() - before_bytes, self.children_cpu() - before_cpu

    def children_cpu(self):
        with open(f"/proc/{self.rsyncd.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def run(self):
        work = self.work
        origin = Daemon(self, "origin", "origin", f"{work}/a/tree")
        mirrors = [Daemon(self, f"mirror{i}", "mirror", f"{work}/m{i}/tree") for i in (1, 2, 3)]
        self.daemons = [origin, *mirrors]
        for parent in ["a", "r", "m1", "m2", "m3"]:
            os.mkdir(f"{work}/{parent}")
        run("cp", "-a", self.first, f"{work}/a/tree")
        run("cp", "-a", self.first, f"{work}/r/tree")
        os.sync()
        for daemon in self.daemons:
            daemon.write([origin])
        origin.start()
        origin.until_it_answers()
        start = time.monotonic()
        origin.ask("wait", "bench", "--version", "1")
        self.note("first version (scan, hash, hold)", f"{time.monotonic() - start:.2f} s")
        for number, mirror in enumerate(mirrors):
            start, before = time.monotonic(), loopback_bytes()
            mirror.start()
            mirror.until_it_answers()
            mirror.ask("wait", "bench", "--version", "1")
            if number == 0:
                self.note("first sync", f"{time.monotonic() - start:.2f} s", f"{(loopback_bytes() - before) / 1e6:.1f} MB")
        for mirror in mirrors[1:]:
            mirror.ask("pause", "bench")

        run("rsync", "-a", "--delete", self.second + "/", f"{work}/a/tree/")
        os.sync()
        before = loopback_bytes()
        start = time.monotonic()
        version = origin.ask("publish", "bench")
        published = time.monotonic()
        mirrors[0].ask("wait", "bench", "--version", str(version))
        done = time.monotonic()
        our_bytes = loopback_bytes() - before
        cpus = []
        for mirror in mirrors[1:]:
            cpu = cpu_seconds(origin.process.pid)
            mirror.ask("resume", "bench")
            mirror.ask("wait", "bench", "--version", str(version))
            cpus.append(cpu_seconds(origin.process.pid) - cpu)

        url = self.start_rsyncd(self.second)
        os.sync()
        rsync_s, rsync_bytes, rsync_cpu = self.rsync_once(url, f"{work}/r/tree")
        self.note("rsync -aH --delete: time", f"{rsync_s:.2f} s")
        self.note("rsync -aH --delete: bytes both ways", f"{rsync_bytes / 1e6:.2f} MB")
        self.note("rsync: server CPU", f"{rsync_cpu:.2f} s")
        self.note("bytes both ways", f"{our_bytes / 1e6:.3f} MB", f"1/{rsync_bytes / our_bytes:.1f} of rsync's")
        self.note("publish", f"{published - start:.2f} s", f"{(published - start) / rsync_s:.2f} of rsync's time")
        self.note("pack ready -> committed", f"{done - published:.2f} s", f"1/{rsync_s / (done - published):.1f} of rsync's time")
        for number, cpu in enumerate(cpus, 2):
            ratio = "not measurable (below 10 ms)" if cpu == 0 else f"1/{rsync_cpu / cpu:.0f} of rsync's server"
            self.note(f"origin CPU for mirror {number}", f"{cpu:.2f} s", ratio)
        for daemon in self.daemons:
            self.note(f"peak memory of {daemon.name}", f"{peak_rss_mb(daemon.process.pid):.0f} MB")

        was, now = content_sizes(self.first), content_sizes(self.second)
        replaced = sum(os.path.getsize(f"{self.first}/{names[0]}") for digest, names in was.items() if digest not in now)
        beyond = settled_disk_bytes(f"{work}/a", f"{work}/origin") - disk_bytes(f"{work}/a/tree")
        store = f"{work}/a/.mirrorbus-bench"
        self.note("of it: index; packs; names of contents",
                  "; ".join(f"{size / 1e6:.1f}" for size in (
                      disk_bytes(f"{work}/origin"), disk_bytes(f"{store}/packs"), directory_bytes(store))) + " MB")
        self.note("disk of the origin beyond its tree", f"{beyond / 1e6:.1f} MB", f"replaced contents: {replaced / 1e6:.1f} MB")
        for tree in ["m1", "m2", "m3"]:
            for one, other in [(f"{work}/a/tree/", f"{work}/{tree}/tree/"), (f"{work}/{tree}/tree/", f"{work}/a/tree/")]:
                differs = output("rsync", "-naHAXc", "-@-1", "--delete", "--itemize-changes", one, other)
                if differs:
                    raise RuntimeError(f"rsync finds differences between {one} and {other}:\n{differs[:2000]}")
        self.note("rsync -naHAXc -@-1 --delete -i, both directions", "nothing to do")

    def close(self, keep):
        for daemon in self.daemons:
            daemon.stop()
        if self.rsyncd:
            self.rsyncd.terminate()
            self.rsyncd.wait()
        end_agent(self.gnupg)
        if keep:
            print("kept in", self.work)
        else:
            shutil.rmtree(self.work)


def main():
    parser = argparse.ArgumentParser(description="The tree's main job, measured against rsync.")
    parser.add_argument("--build", required=True)
    parser.add_argument("--first")
    parser.add_argument("--second")
    parser.add_argument("--work", default="/var/tmp")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    if bool(options.first) != bool(options.second):
        parser.error("--first and --second go together")
    alone_on_the_network()
    bench = Bench(options)
    try:
        bench.run()
    finally:
        bench.close(options.keep)


if __name__ == "__main__":
    sys.exit(main())
