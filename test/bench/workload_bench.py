#!/usr/bin/python3
"""Workloads of real mirror networks, rsync beside each in the same run.

  workload_bench.py --build BUILD [--only B2,B6] [--mirrors 1,8] [--entries N] [--first DIR --second DIR]
                    [--packages FILE] [--work DIR] [--origin DIR] [--peers] [--turns N] [--hosts]

  B1  (with B2) a large Debian-shaped tree, nothing changes: what a poll costs, and what being told costs
  B2  the same, 0.1 % of it new, 0.05 % gone, 30 files of metadata written anew
  B3  --first becomes --second (kernel sources a few weeks apart)
  B4  a file of package descriptions (--packages, else made), 150 of its paragraphs edited
  B5  an image of 256 MB, 300 pieces of it written anew
  B6  100,000 files of 200 bytes, first sync
  B7  a file of 1.5 GB that does not compress, first sync
  B8  a directory of 10,000 files gets another name
  B9  chmod -R
  B10 is the first sync of B2 with --entries 1000000
  BEHIND a mirror comes back --turns changes of B2, B4 and B5 later: by the chain of their packs, and by one
      pack over all of them, which is what another origin makes that publishes only the last
  LAT 100 files change, --rounds times: from the end of the quiet period until a mirror has them all

Each with so many mirrors, and as many rsync clients at once; all at one address, or with --hosts each in a network
namespace of its own, joined to the origin's by a veth. Times of a change: `publish` is scan, pack and
event; `visible` is from the event until the last mirror has committed. Bytes are those of the loopback
interface, both ways, in a network of the bench's own. Deletions of large trees are left to the end, since ext4
makes files ten times more slowly for minutes after one: --work is best on one that was made a moment ago. --origin
may be on another filesystem, as it is where mirrors are on other hosts: on its own an origin hears each write.

The second to write on a filesystem is the slower one: that is us, or with --ours-first rsync's clients.

--peers: also what ostree, casync and zsync make of B3, B4 and B5, where they are installed.
"""
import argparse
import os
import random
import shutil
import subprocess
import sys
import time

from mirror_network import Network, alone_on_the_network, differences, network_bytes, run
import peers

SEED = 20261126


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


class Tree:
    """A workload: make(path) fills the tree; change(path) is what happens to it, if anything does."""
    name, what, first_sync = "", "", False

    def __init__(self, options):
        self.options, self.random = options, random.Random(SEED)

    def make(self, path):
        raise NotImplementedError

    def change(self, path):
        raise NotImplementedError


class Archive(Tree):
    """pool/<letter>/<source>/<files>, sizes lognormal but small enough to make a million of them."""
    name, what = "B2", "0.1 % new, 0.05 % gone, 30 indexes"

    def make(self, path):
        made, self.turn, self.files = 0, 0, []
        block = self.random.randbytes(1 << 16)
        os.makedirs(f"{path}/dists")
        for i in range(30):
            write(f"{path}/dists/Packages-{i}", self.index(i, 0))
        while made < self.options.entries:
            source = f"{path}/pool/{made // 20000:03}/s{made}"
            os.makedirs(source)
            made += 1
            for _ in range(self.random.randrange(2, 8)):
                size = min(int(self.random.lognormvariate(5, 1.8)), 60000)
                at = self.random.randrange(0, 4096)
                name = f"{source}/p{made}_{size}.deb"
                write(name, block[at:at + size] + str(made).encode())
                self.files.append(name)
                made += 1

    def index(self, number, turn):
        return b"".join(b"Package: p%d-%d\nVersion: 1.%d\nSize: %d\n\n" % (number, i, (i * 7 + turn) % 97 if i % 11 else turn, i * 31)
                        for i in range(500))

    def change(self, path):
        self.turn += 1
        for name in self.random.sample(self.files, self.options.entries // 2000):
            self.files.remove(name)
            os.unlink(name)
        for i in range(self.options.entries // 1000):
            write(f"{path}/pool/000/new{self.turn}-{i}.deb", self.random.randbytes(self.random.randrange(100, 4000)))
        for i in range(30):
            write(f"{path}/dists/Packages-{i}.new", self.index(i, self.turn))
            os.replace(f"{path}/dists/Packages-{i}.new", f"{path}/dists/Packages-{i}")


class Kernel(Tree):
    name, what = "B3", "kernel sources, a few weeks apart"

    def make(self, path):
        run("cp", "-a", self.options.first, path)

    def change(self, path):
        run("rsync", "-a", "--delete", self.options.second + "/", f"{path}/")


class Packages(Tree):
    name, what = "B4", "package descriptions, 150 paragraphs edited"

    def make(self, path):
        os.makedirs(path)
        if self.options.packages:
            shutil.copyfile(self.options.packages, f"{path}/Packages")
            return
        words = [f"word{i}" for i in range(3000)]
        write(f"{path}/Packages", "".join(
            f"Package: package-{i}\nVersion: {self.random.randrange(30)}.{self.random.randrange(99)}\n"
            f"Depends: {', '.join(self.random.choices(words, k=8))}\nSHA256: {self.random.randbytes(32).hex()}\n"
            f"Description: {' '.join(self.random.choices(words, k=40))}\n\n" for i in range(80000)).encode())

    def change(self, path):
        with open(f"{path}/Packages", "rb") as file:
            parts = file.read().split(b"\n\n")
        for i in self.random.sample(range(len(parts)), 150):
            parts[i] = parts[i].replace(b"Version: ", b"Version: 1:") + b"\nEdited: yes"
        for i in self.random.sample(range(len(parts)), 10):
            parts[i] = b""
        write(f"{path}/Packages.new", b"\n\n".join(parts))
        os.replace(f"{path}/Packages.new", f"{path}/Packages")


class Image(Tree):
    name = "B5"

    def __init__(self, options):
        super().__init__(options)
        self.size = options.image_mb << 20
        self.what = f"image of {options.image_mb} MB, 300 pieces anew"

    def make(self, path):
        os.makedirs(path)
        block = self.random.randbytes(1 << 20)
        with open(f"{path}/disk.img", "wb") as file:
            for i in range(self.size >> 20):
                at = i * 911 % len(block)
                file.write(block[at:] + block[:at] if i % 3 else bytes(1 << 20))

    def change(self, path):
        shutil.copyfile(f"{path}/disk.img", f"{path}/disk.new")
        with open(f"{path}/disk.new", "r+b") as file:
            for _ in range(300):
                file.seek(self.random.randrange(self.size - 20000))
                file.write(self.random.randbytes(self.random.randrange(100, 700)))
        os.replace(f"{path}/disk.new", f"{path}/disk.img")


class Small(Tree):
    name, what, first_sync = "B6", "100,000 files of 200 bytes, first sync", True
    count = 100_000

    def make(self, path):
        for i in range(self.count):
            if i % 500 == 0:
                os.makedirs(f"{path}/d{i // 500:03}")
            write(f"{path}/d{i // 500:03}/f{i}", self.random.randbytes(50) * 4)


class Large(Tree):
    name, what, first_sync = "B7", "one file of 1.5 GB, first sync", True

    def make(self, path):
        os.makedirs(path)
        with open(f"{path}/large.iso", "wb") as file:
            for _ in range(1536):
                file.write(self.random.randbytes(1 << 20))


class Renamed(Tree):
    name, what = "B8", "directory of 10,000 files renamed"

    def make(self, path):
        os.makedirs(f"{path}/before")
        for i in range(10_000):
            write(f"{path}/before/f{i}", self.random.randbytes(self.random.randrange(100, 3000)))

    def change(self, path):
        os.rename(f"{path}/before", f"{path}/after")


class Modes(Tree):
    name, what = "B9", "chmod -R of the kernel's tree"

    def make(self, path):
        run("cp", "-a", self.options.first, path)

    def change(self, path):
        run("chmod", "-R", "g+w", path)


class Row:
    def __init__(self, name, what):
        self.cells = [name, what]

    def add(self, text):
        self.cells.append(text)
        return self

    def print(self):
        print("| " + " | ".join(self.cells) + " |", flush=True)


def mb(count):
    return f"{count / 1e6:.3f}" if count < 1e7 else f"{count / 1e6:.1f}"


def measure(options, workload, mirrors):
    network = Network(options.build, options.work, hosts=mirrors if options.hosts else 0)
    try:
        return run_workload(options, network, workload, mirrors)
    finally:
        network.close()


def run_workload(options, network, workload, count):
    work = network.work
    origin = network.daemon("origin", "origin", network.folder(options.origin))
    mirrors = [network.daemon(f"m{i}", "mirror", f"m{i}") for i in range(count)]
    for mirror, host in zip(mirrors, network.hosts):
        mirror.move_to(host)
    for daemon in network.daemons:
        daemon.write([origin])
    workload.make(origin.path)
    os.sync()
    origin.start()
    start = time.monotonic()
    origin.until_it_answers().ask("wait", "bench", "--version", "1")
    scanned = time.monotonic() - start
    targets = [f"{work}/r{i}" for i in range(count)]
    for target in targets:
        os.mkdir(target)
    server = network.rsync_server(origin.path)

    if not options.ours_first:
        theirs = server.clients(*targets)
        os.sync()
    before, cpu, start = network_bytes(), origin.cpu(), time.monotonic()
    for mirror in mirrors:
        mirror.start()
    for mirror in mirrors:
        mirror.until_it_answers().ask("wait", "bench", "--version", "1")
    ours = time.monotonic() - start, network_bytes() - before, origin.cpu() - cpu
    if options.ours_first:
        theirs = server.clients(*targets)
        os.sync()
    first = Row(workload.name + (f", {count} mirrors" if count > 1 else ""),
                workload.what if workload.first_sync else f"{workload.what}: first sync")
    report(first, None, ours, theirs, network)
    first.add(f"scan {scanned:.1f} s").print()
    if workload.first_sync:
        check(origin, mirrors)
        return
    if isinstance(workload, Archive):
        idle(network, origin, mirrors, server, targets)

    workload.change(origin.path)
    os.sync()
    time.sleep(0.1)
    before, cpu, start = network_bytes(), origin.cpu(), time.monotonic()
    version = origin.ask("publish", "bench")
    published, after_publish = time.monotonic() - start, origin.cpu()
    for mirror in mirrors:
        mirror.ask("wait", "bench", "--version", str(version))
    done = time.monotonic() - start
    ours = done, network_bytes() - before, origin.cpu() - after_publish
    os.sync()
    theirs = server.clients(*targets)
    row = Row(workload.name + (f", {count} mirrors" if count > 1 else ""), workload.what)
    report(row, published, ours, theirs, network)
    row.add(f"making it {after_publish - cpu:.2f} s of CPU").print()
    check(origin, mirrors)


def report(row, published, ours, theirs, network):
    visible = ours[0] - (published or 0)
    row.add("" if published is None else f"{published:.2f} s ({published / theirs[0]:.2f} ×)")
    row.add(f"{visible:.2f} s").add(f"{theirs[0]:.2f} s").add(f"{visible / theirs[0]:.2f} ×")
    row.add(f"{mb(ours[1])} MB").add(f"{mb(theirs[1])} MB").add(f"1/{theirs[1] / max(ours[1], 1):.1f}")
    row.add(f"{ours[2]:.2f} s").add(f"{theirs[2]:.2f} s")
    origin, *mirrors = (daemon.peak_mb() for daemon in network.daemons)
    row.add(f"{origin:.0f}, {max(mirrors):.0f} MB")


def check(origin, mirrors):
    for mirror in mirrors[:2]:
        if found := differences(origin.path, mirror.path):
            raise RuntimeError(f"{mirror.name} differs:\n{found[:2000]}")


def idle(network, origin, mirrors, server, targets):
    """B1: what it costs that nothing happens, a minute of it, and what one poll of each client costs."""
    seconds = 60
    before, cpu = network_bytes(), origin.cpu()
    own = sum(m.cpu() for m in mirrors)
    time.sleep(seconds)
    told = network_bytes() - before
    start = time.monotonic()
    version = origin.ask("publish", "bench")
    looked = time.monotonic() - start
    assert version == 1
    polls = server.clients(*targets)
    Row("B1", f"nothing changes, {len(mirrors)} of them").add(f"told: {mb(told)} MB and {origin.cpu() - cpu:.2f} s of "
        f"the origin's CPU, {(sum(m.cpu() for m in mirrors) - own) / len(mirrors):.2f} s of a mirror's, in {seconds} s").add(
        f"one poll of each: {mb(polls[1])} MB, {polls[2]:.2f} s of the server's CPU, {polls[0]:.2f} s").add(
        f"`publish` of nothing {looked:.2f} s").print()


def latency(options):
    """From the last write plus `settle` until the last of the files is at the mirror."""
    settle = 0.2
    network = Network(options.build, options.work)
    try:
        origin = network.daemon("origin", "origin", "a", f'settle = "{int(settle * 1000)}ms"\n')
        mirror = network.daemon("m0", "mirror", "m0")
        origin.how = "auto"
        for daemon in network.daemons:
            daemon.write([origin])
        source = random.Random(SEED)
        Small.count = 20_000
        Small(options).make(origin.path)
        os.sync()
        for daemon in network.daemons:
            daemon.start()
        mirror.until_it_answers().ask("wait", "bench", "--version", "1")
        found = []
        for turn in range(options.rounds):
            for number in source.sample(range(Small.count), 100):
                name = f"{origin.path}/d{number // 500:03}/f{number}"
                write(name + ".new", b"turn %d of %d" % (turn, number))
                os.replace(name + ".new", name)
            done = time.monotonic()
            last = name.replace(origin.path, mirror.path)
            wanted = b"turn %d of %d" % (turn, number)
            while open(last, "rb").read() != wanted:
                time.sleep(0.002)
            mirror.ask("wait", "bench", "--version", str(turn + 2))
            found.append(time.monotonic() - done - settle)
        found.sort()
        print(f"LAT: {options.rounds} changes of 100 files in {Small.count}: p50 {found[len(found) // 2]:.3f} s, "
              f"p99 {found[int(len(found) * 0.99)]:.3f} s, worst {found[-1]:.3f} s after a quiet period of {settle} s")
        check(origin, [mirror])
    finally:
        network.close()


def behind(options, kind):
    """Bytes that a mirror fetches which was away for some changes."""
    fetched = []
    for one_pack in False, True:
        network = Network(options.build, options.work)
        try:
            workload = kind(options)
            origin = network.daemon("origin", "origin", network.folder(options.origin))
            mirror = network.daemon("m0", "mirror", "m0")
            for daemon in network.daemons:
                daemon.write([origin])
            workload.make(origin.path)
            copy = f"{network.work}/copy"
            run("cp", "-a", origin.path, copy)
            for daemon in network.daemons:
                daemon.start()
            mirror.until_it_answers().ask("wait", "bench", "--version", "1")
            mirror.stop()
            for _ in range(options.turns):
                workload.change(origin.path)
                if not one_pack:
                    version = origin.ask("publish", "bench")
            if one_pack:
                version = origin.ask("publish", "bench")
            before, start = network_bytes(), time.monotonic()
            mirror.start()
            mirror.until_it_answers().ask("wait", "bench", "--version", str(version))
            fetched.append((network_bytes() - before, time.monotonic() - start))
            check(origin, [mirror])
            if one_pack:
                theirs = network.rsync_server(origin.path).clients(copy)
        finally:
            network.close()
    (chain, chain_s), (direct, direct_s) = fetched
    print(f"BEHIND {workload.name}, {options.turns} changes: chain {mb(chain)} MB, {chain_s:.2f} s; one pack "
          f"{mb(direct)} MB, {direct_s:.2f} s ({chain / direct:.1f} ×); rsync {mb(theirs[1])} MB, {theirs[0]:.2f} s",
          flush=True)


def main():
    parser = argparse.ArgumentParser(description="Workloads of mirror networks, rsync beside each.")
    parser.add_argument("--build", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--mirrors", default="1")
    parser.add_argument("--hosts", action="store_true", help="a network namespace for each mirror")
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--first")
    parser.add_argument("--second")
    parser.add_argument("--packages")
    parser.add_argument("--work", default="/var/tmp")
    parser.add_argument("--origin", help="where the origin's tree lies")
    parser.add_argument("--image-mb", type=int, default=256, help="size of B5's image")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--turns", type=int, default=20, help="of BEHIND")
    parser.add_argument("--ours-first", action="store_true", help="at the first sync")
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    alone_on_the_network()
    wanted = options.only.split(",") if options.only else []
    if "LAT" in wanted:
        latency(options)
    if "BEHIND" in wanted:
        for kind in Archive, Packages, Image:
            behind(options, kind)
    wanted = [name for name in wanted if name not in ("LAT", "BEHIND")]
    if options.only and not wanted:
        return
    kinds = [Archive, Kernel, Packages, Image, Small, Large, Renamed, Modes]
    if unknown := set(wanted) - {kind.name for kind in kinds}:
        parser.error("no such workload: " + ", ".join(sorted(unknown)))
    print("| workload | what | publish (of rsync's time) | visible | rsync | ratio | bytes | rsync's bytes | ratio | "
          "origin's CPU | rsync server's CPU | peak memory: origin, mirror | |\n" + "|---" * 13 + "|")
    for kind in kinds:
        if wanted and kind.name not in wanted:
            continue
        if kind in (Kernel, Modes) and not options.first:
            continue
        for count in options.mirrors.split(","):
            measure(options, kind(options), int(count))
        if options.peers and kind in (Kernel, Packages, Image):
            peers.compare(kind(options), options.work)


if __name__ == "__main__":
    sys.exit(main())
