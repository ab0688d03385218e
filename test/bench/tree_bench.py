#!/usr/bin/python3
"""The tree's main job, measured against rsync in the same run.

  tree_bench.py --build BUILD [--first DIR --second DIR] [--work DIR] [--elsewhere DIR] [--keep]

An origin holds a copy of the first tree and three mirrors follow it. `rsync -a --delete` then makes
the origin's copy equal to the second tree, and `bus-mirror publish` takes it as a version. Beside it,
`rsync -aH --delete` from an rsync daemon brings a copy of the first tree to the second. Bytes are
those of the loopback interface, both ways, by the kernel's counters; as root the bench moves to a
network namespace of its own, where nobody else's bytes are counted.

The second and third mirror, which say what each further one costs the origin, lie in --elsewhere: on
another filesystem, as those of other hosts do. On its own an origin hears each write.

Without trees, /usr/include and a copy of it with one file in twenty edited. For the documented figures
the trees are Debian's kernel sources, unpacked:
  apt-get download linux-source-6.1=6.1.170-3 linux-source-6.1=6.1.176-1
"""
import argparse
import os
import sys
import tempfile
import time

from mirror_network import Network, alone_on_the_network, differences, disk_bytes, network_bytes, output, run


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


def until_at_rest(daemon):
    """It has used no processor time for some seconds."""
    seen = []
    while len(seen) < 6 or len(set(seen[-6:])) > 1:
        seen.append(daemon.cpu())
        time.sleep(1)


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


class Bench:
    def __init__(self, options, elsewhere):
        self.elsewhere = elsewhere
        self.network = Network(options.build, options.work, options.keep)
        self.work = self.network.work
        self.first, self.second = options.first, options.second
        if not self.first:
            self.first, self.second = "/usr/include", f"{self.work}/edited"
            edited_copy(self.first, self.second)

    def note(self, what, value, versus=""):
        print(f"{what:<52} {value:>16}  {versus}", flush=True)

    def run(self):
        work = self.work
        origin = self.network.daemon("origin", "origin", "a")
        places = [f"{work}/m1", f"{self.elsewhere}/m2", f"{self.elsewhere}/m3"]
        mirrors = [self.network.daemon(f"mirror{i}", "mirror", place) for i, place in enumerate(places, 1)]
        os.mkdir(f"{work}/r")
        run("cp", "-a", self.first, f"{work}/a/tree")
        run("cp", "-a", self.first, f"{work}/r/tree")
        os.sync()
        for daemon in self.network.daemons:
            daemon.write([origin])
        origin.start()
        origin.until_it_answers()
        start = time.monotonic()
        origin.ask("wait", "bench", "--version", "1")
        self.note("first version (scan, hash, hold)", f"{time.monotonic() - start:.2f} s")
        for number, mirror in enumerate(mirrors):
            start, before = time.monotonic(), network_bytes()
            mirror.start()
            mirror.until_it_answers()
            mirror.ask("wait", "bench", "--version", "1")
            if number == 0:
                self.note("first sync", f"{time.monotonic() - start:.2f} s", f"{(network_bytes() - before) / 1e6:.1f} MB")
        for mirror in mirrors[1:]:
            mirror.ask("pause", "bench")

        run("rsync", "-a", "--delete", self.second + "/", f"{work}/a/tree/")
        os.sync()
        before = network_bytes()
        start = time.monotonic()
        version = origin.ask("publish", "bench")
        published = time.monotonic()
        mirrors[0].ask("wait", "bench", "--version", str(version))
        done = time.monotonic()
        our_bytes = network_bytes() - before
        cpus = []
        until_at_rest(origin)  # it looks once more at what was changed so lately
        for mirror in mirrors[1:]:
            cpu = origin.cpu()
            mirror.ask("resume", "bench")
            mirror.ask("wait", "bench", "--version", str(version))
            cpus.append(origin.cpu() - cpu)

        server = self.network.rsync_server(self.second)
        os.sync()
        rsync_s, rsync_bytes, rsync_cpu = server.clients(f"{work}/r/tree")
        self.note("rsync -aH --delete: time", f"{rsync_s:.2f} s")
        self.note("rsync -aH --delete: bytes both ways", f"{rsync_bytes / 1e6:.2f} MB")
        self.note("rsync: server CPU", f"{rsync_cpu:.2f} s")
        self.note("bytes both ways", f"{our_bytes / 1e6:.3f} MB", f"1/{rsync_bytes / our_bytes:.1f} of rsync's")
        self.note("publish", f"{published - start:.2f} s", f"{(published - start) / rsync_s:.2f} of rsync's time")
        self.note("pack ready -> committed", f"{done - published:.2f} s", f"1/{rsync_s / (done - published):.1f} of rsync's time")
        for number, cpu in enumerate(cpus, 2):
            ratio = "not measurable (below 10 ms)" if cpu == 0 else f"1/{rsync_cpu / cpu:.0f} of rsync's server"
            self.note(f"origin CPU for mirror {number}", f"{cpu:.2f} s", ratio)
        for daemon in self.network.daemons:
            self.note(f"peak memory of {daemon.name}", f"{daemon.peak_mb():.0f} MB")

        was, now = content_sizes(self.first), content_sizes(self.second)
        replaced = sum(os.path.getsize(f"{self.first}/{names[0]}") for digest, names in was.items() if digest not in now)
        beyond = settled_disk_bytes(f"{work}/a", f"{work}/origin") - disk_bytes(f"{work}/a/tree")
        store = f"{work}/a/.mirrorbus-bench"
        self.note("of it: index; packs; names of contents",
                  "; ".join(f"{size / 1e6:.1f}" for size in (
                      disk_bytes(f"{work}/origin"), disk_bytes(f"{store}/packs"), directory_bytes(store))) + " MB")
        self.note("disk of the origin beyond its tree", f"{beyond / 1e6:.1f} MB", f"replaced contents: {replaced / 1e6:.1f} MB")
        for mirror in mirrors:
            if found := differences(origin.path, mirror.path):
                raise RuntimeError(f"rsync finds differences between the origin and {mirror.name}:\n{found[:2000]}")
        self.note("rsync -naHAXc -@-1 --delete -i, both directions", "nothing to do")


def main():
    parser = argparse.ArgumentParser(description="The tree's main job, measured against rsync.")
    parser.add_argument("--build", required=True)
    parser.add_argument("--first")
    parser.add_argument("--second")
    parser.add_argument("--work", default="/var/tmp")
    parser.add_argument("--elsewhere", default="/dev/shm")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    if bool(options.first) != bool(options.second):
        parser.error("--first and --second go together")
    alone_on_the_network()
    with tempfile.TemporaryDirectory(prefix="tree-bench-", dir=options.elsewhere) as elsewhere:
        bench = Bench(options, elsewhere)
        try:
            bench.run()
        finally:
            bench.network.close()


if __name__ == "__main__":
    sys.exit(main())
