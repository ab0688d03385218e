"""Namespaces of our own: what is done to network and mounts in there ends with this process, however it ends.

enter() starts the program anew inside, as root or else through a user namespace. A Host is another network
namespace, joined to ours by a veth; it lasts as long as the pipe to the process that holds it.
"""
import os
import pathlib
import subprocess
import sys
import time
import unittest

INSIDE = "MIRRORBUS_NAMESPACES"


def enter(*kinds):
    """`kinds`: "net", "mount". Why there can be none, or nothing once we are inside."""
    if os.environ.get(INSIDE) == " ".join(kinds):
        return None
    flags = [f"--{kind}" for kind in kinds]
    for way in ([], ["--user", "--map-root-user"]):
        command = ["unshare", *way, *flags]
        try:
            tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
        except OSError as error:
            return f"no namespaces: {error}"
        if tried.returncode == 0:
            os.environ[INSIDE] = " ".join(kinds)
            os.execvp(command[0], [*command, sys.executable, *sys.argv])
    return f"no namespaces: {tried.stderr.strip()}"


def run(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Host:
    """Number `number` (1 to 60). We are `here` to it, it is `there` to us, as endpoints write it."""

    def __init__(self, number, ipv6=False):
        self.device = f"host{number}"
        net = f"[fd77::{number}:" if ipv6 else f"10.77.{number}."
        self.here, self.there = (f"{net}{end}{']' if ipv6 else ''}" for end in (1, 2))
        self.holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        try:
            self.join(number)
        except BaseException:
            self.close()
            raise

    def join(self, number):
        ours = os.readlink("/proc/self/ns/net")
        theirs = f"/proc/{self.holder.pid}/ns/net"
        deadline = time.monotonic() + 20
        while os.readlink(theirs) == ours:
            if self.holder.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("unshare makes no network namespace")
            time.sleep(0.005)
        self.inside = ["nsenter", f"--net={theirs}", "--"]
        run("ip", "link", "add", self.device, "type", "veth", "peer", "name", "up0", "netns",
            str(self.holder.pid))
        run(*self.address(self.here), "dev", self.device)
        run("ip", "link", "set", self.device, "up")
        run(*self.inside, *self.address(self.there), "dev", "up0")
        for device in ("lo", "up0"):
            run(*self.inside, "ip", "link", "set", device, "up")
        # Where packets come in: the sender's TCP would notice what its own side drops.
        table = f"table inet faults_{number}"
        for where, device in (((), self.device), (self.inside, "up0")):
            run(*where, "nft", "-f", "-", text=f"""{table} {{
                chain coming {{ type filter hook input priority 0; iifname "{device}" jump drops; }}
                chain drops {{ }}
            }}""")
        self.table = table

    @staticmethod
    def address(one):
        """The command that gives it, at once: that nobody else has it need not be found out."""
        if one.startswith("["):
            return ["ip", "address", "add", f"{one.strip('[]')}/112", "nodad"]
        return ["ip", "address", "add", f"{one}/30"]

    def drop(self, there="", here=""):
        """From now on what comes in there and here is dropped where it matches, e.g. "numgen random mod
        100 < 30"; empty: none of it."""
        chain = self.table.replace("table ", "", 1) + " drops"
        for where, match in (((), here), (self.inside, there)):
            rule = f"add rule {chain} {match} counter drop\n" if match else ""
            run(*where, "nft", "-f", "-", text=f"flush chain {chain}\n{rule}")

    def dropped(self):
        """Packets since drop()."""
        words = []
        for where in ((), self.inside):
            words += run(*where, "nft", "list", *self.table.split()).split()
        return sum(int(words[i + 1]) for i, word in enumerate(words) if word == "packets")

    def slow(self, rate):
        run("tc", "qdisc", "replace", "dev", self.device, "root", "tbf", "rate", rate, "burst", "4kb",
            "latency", "400ms")

    def unplug(self, out):
        run("ip", "link", "set", self.device, "down" if out else "up")

    def heal(self):
        self.drop()
        self.unplug(False)
        subprocess.run(["tc", "qdisc", "del", "dev", self.device, "root"], capture_output=True, check=False)

    def close(self):
        self.holder.stdin.close()
        self.holder.wait(20)


def skip_without_hosts(none):
    """A test case's network: our loopback interface, and that there can be Hosts. `none`: what enter() said."""
    if none:
        raise unittest.SkipTest(none)
    try:
        loopback()
        Host(60).close()
    except (RuntimeError, OSError) as error:
        raise unittest.SkipTest(f"namespaces, but not what it takes in them: {error}") from error


def has_ipv6():
    try:
        Host(60, ipv6=True).close()
    except RuntimeError:
        return False
    return True


def loopback():
    run("ip", "link", "set", "lo", "up")


def small_disk(path, size):
    """A file system of its own at `path`, of so many bytes."""
    pathlib.Path(path).mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(path))
