#!/usr/bin/python3
"""A first sync, ours and rsync's in turn, each on a filesystem that was made a moment before: the second to write on
one is the slower one.

  first_sync_bench.py --build BUILD [--tree DIR] [--rounds N] [--work DIR] [--size BYTES]

The filesystem is ext4 on a loop device over a file of --size in --work, all of it written before; the origin has its
copy of --tree in memory, as if it were on another host. Ours: from the start of the daemon until the version is
committed, everything on disk. rsync's: until it ends, with everything in the page cache, and then until `sync` ends.
As root.
"""
import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from mirror_network import Network, alone_on_the_network, differences  # and the way to test/fault
from disk_image import DiskImage


def renew(disk):
    disk.unmount()
    disk.make_new()
    disk.mount()
    os.sync()


def ours(network, disk, origin, number):
    mirror = network.daemon(f"m{number}", "mirror", disk.path)
    mirror.state = f"{disk.path}/state"
    mirror.write([origin])
    start = time.monotonic()
    mirror.start()
    mirror.until_it_answers().ask("wait", "bench", "--version", "1")
    took = time.monotonic() - start
    if number == 0 and (found := differences(origin.path, mirror.path)):
        raise RuntimeError(f"the mirror differs:\n{found[:2000]}")
    mirror.stop()
    network.daemons.remove(mirror)
    return took


def theirs(server, disk):
    target = f"{disk.path}/tree"
    os.mkdir(target)
    took, _, _ = server.clients(target)
    start = time.monotonic()
    os.sync()
    return took, took + time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description="A first sync, in turn with rsync.")
    parser.add_argument("--build", required=True)
    parser.add_argument("--tree", default="/usr/include")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", default="/var/tmp")
    parser.add_argument("--size", type=int, default=6 << 30)
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("mounts filesystems: run it as root")
    alone_on_the_network("--mount")
    network = Network(options.build, "/dev/shm")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="first-sync-", dir=options.work))
    disk = DiskImage(folder / "disk", options.size, measured=True)
    try:
        origin = network.daemon("origin", "origin", "a")
        origin.write([origin])
        subprocess.run(["cp", "-a", options.tree, origin.path], check=True)
        origin.start()
        origin.until_it_answers().ask("wait", "bench", "--version", "1")
        server = network.rsync_server(origin.path)
        rows = []
        for number in range(options.rounds):
            renew(disk)
            we = ours(network, disk, origin, number)
            renew(disk)
            rows.append((we, *theirs(server, disk)))
            print("ours {:.2f} s, rsync {:.2f} s, with sync {:.2f} s".format(*rows[-1]), flush=True)
        we, they, synced = (statistics.median(column) for column in zip(*rows))
        print(f"median of {options.rounds}: {we:.2f} s; rsync {they:.2f} s, {we / they:.2f} ×; "
              f"with sync {synced:.2f} s, {we / synced:.2f} ×")
    finally:
        network.close()
        disk.close()
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
