#!/usr/bin/python3
"""A first sync, ours and rsync's in turn, each on a filesystem that was made a moment before: the second to write on
one is the slower one.

  first_sync_bench.py --build BUILD [--tree DIR] [--rounds N] [--work DIR] [--size BYTES]

The filesystem is ext4 on a loop device over a sparse file of --size in --work; the origin's copy of --tree is in
memory, as if it were on another host. Ours: from the start of the daemon until the version is committed, everything
on disk. rsync's: until it ends, with everything in the page cache, and then until `sync` ends. As root.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from mirror_network import Network, alone_on_the_network, differences, output, run


class Disk:
    """Mounted for this process alone, and gone with it."""

    def __init__(self, work, size):
        self.image = f"{work}/first-sync-{os.getpid()}.img"
        self.mount = tempfile.mkdtemp(prefix="first-sync-", dir=work)
        self.size = size

    def renew(self):
        self.clear()
        run("truncate", "-s", self.size, self.image)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image)
        device = output("losetup", "--find", "--show", "--direct-io=on", self.image).strip()
        try:
            run("mount", device, self.mount)
        finally:
            run("losetup", "--detach", device)  # once it is unmounted
        os.sync()

    def clear(self):
        if os.path.ismount(self.mount):
            run("umount", self.mount)

    def close(self):
        self.clear()
        os.rmdir(self.mount)
        if os.path.exists(self.image):
            os.unlink(self.image)


def ours(network, disk, origin, number):
    mirror = network.daemon(f"m{number}", "mirror", disk.mount)
    mirror.state = f"{disk.mount}/state"
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
    target = f"{disk.mount}/tree"
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
    parser.add_argument("--size", default="16G")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("mounts filesystems: run it as root")
    alone_on_the_network("--mount")
    network = Network(options.build, "/dev/shm")
    disk = Disk(options.work, options.size)
    try:
        origin = network.daemon("origin", "origin", "a")
        origin.write([origin])
        subprocess.run(["cp", "-a", options.tree, origin.path], check=True)
        origin.start()
        origin.until_it_answers().ask("wait", "bench", "--version", "1")
        server = network.rsync_server(origin.path)
        rows = []
        for number in range(options.rounds):
            disk.renew()
            we = ours(network, disk, origin, number)
            disk.renew()
            rows.append((we, *theirs(server, disk)))
            print("ours {:.2f} s, rsync {:.2f} s, with sync {:.2f} s".format(*rows[-1]), flush=True)
        we, they, synced = (statistics.median(column) for column in zip(*rows))
        print(f"median of {options.rounds}: {we:.2f} s; rsync {they:.2f} s, {we / they:.2f} ×; "
              f"with sync {synced:.2f} s, {we / synced:.2f} ×")
    finally:
        network.close()
        disk.close()


if __name__ == "__main__":
    sys.exit(main())
