"""A tree of everything that mirrors tend to get wrong, and a second version of it. Seeded.

As root it has owners, devices, and attributes that only root may set.
"""
import os
import pathlib
import random
import stat
import struct

ROOT = os.geteuid() == 0
TIMES = [-2_000_000_000, -1, 0, 1_000_000_000, 2_147_483_648, 4_294_967_296, 9_000_000_000]
CAPABILITY = struct.pack("<5I", 0x02000001, 0x400, 0, 0, 0)


def acl(owner, uid, user, group, mask, other):
    """A POSIX ACL with one named user, as the kernel has it."""
    nobody = 0xFFFFFFFF
    entries = [(1, owner, nobody), (2, user, uid), (4, group, nobody), (16, mask, nobody), (32, other, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


class NastyTree:
    """`links`: names of the largest link group; a file system allows some 65,000."""

    def __init__(self, path, seed, links=300):
        self.top, self.random, self.links = os.fsencode(path), random.Random(seed), links
        os.makedirs(self.top)

    def at(self, name):
        return os.path.join(self.top, os.fsencode(name))

    def file(self, name, content=None):
        path = self.at(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(self.random.randbytes(self.random.randrange(1, 9000)) if content is None else content)
        return path

    def directory(self, name, mode=0o755):
        path = self.at(name)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
        return path

    def sparse(self, name, size):
        path = self.file(name, b"")
        os.truncate(path, size)
        with open(path, "r+b") as out:
            for _ in range(4):
                out.seek(self.random.randrange(size - 10))
                out.write(b"not zero")

    def time(self, name):
        os.utime(self.at(name), ns=(0, self.random.choice(TIMES) * 10**9 + self.random.randrange(10**9)),
                 follow_symlinks=False)

    def set(self, name, **attributes):
        for attribute, value in attributes.items():
            os.setxattr(self.at(name), attribute.replace("_", ".", 1), value, follow_symlinks=False)

    def acl(self, name, kind, *bits):
        os.setxattr(self.at(name), f"system.posix_acl_{kind}", acl(*bits))

    def link(self, old, new):
        os.makedirs(os.path.dirname(self.at(new)), exist_ok=True)
        os.link(self.at(old), self.at(new), follow_symlinks=False)

    def first(self):
        # Link groups: in one directory, across directories, large, of symlinks; one to be broken.
        for name in ("links/one", "links/to-break", "links/alone", "links/gains"):
            self.file(name)
        self.link("links/one", "links/two")
        self.link("links/one", "far/away/three")
        self.link("links/to-break", "links/broken")
        self.link("links/to-break", "far/stays")
        self.file("many/0")
        for number in range(1, self.links):
            self.link("many/0", f"many/{number}")
        os.symlink(b"one", self.at("links/symlink"))
        self.link("links/symlink", "far/symlink")
        # Equal contents that are files of their own.
        for name in ("same/a", "same/b", "same/c", "other/same"):
            self.file(name, b"the same in each")
        # What moves, and what turns into something else.
        for name in ("moves/file", "moves/directory/below/deep", "moves/directory/x", "moves/swap-a", "moves/swap-b"):
            self.file(name)
        self.file("turns/file-to-directory")
        self.file("turns/directory-to-file/below/deep")
        os.symlink(b"../same/a", self.at("turns/symlink-to-directory"))
        self.file("turns/directory-to-symlink/x")
        self.file("turns/file-to-symlink")
        os.symlink(b"nowhere", self.at("turns/symlink-to-file"))
        self.file("turns/file-to-fifo")
        # Names and targets.
        for name in (b"l" * 255, b"not \xff\xfe utf-8 \x80", b" space ", b"-dash", b"new\nline", b"...", b"~",
                     b"*?[a]"):
            self.file(b"names/" + name)
        os.symlink(b"t" * 4000, self.at("names/long-target"))
        os.symlink(b"\xff/../..//x", self.at("names/odd-target"))
        # Modes.
        for number, mode in enumerate([0o4755, 0o2755, 0o6711, 0o1644, 0o000, 0o444, 0o777]):
            os.chmod(self.file(f"modes/{number}"), mode)
        self.directory("modes/sticky", 0o1777)
        self.directory("modes/setgid", 0o2775)
        self.directory("empty/of/all")
        for name in ("read-only/a", "read-only/b", "read-only/below/c"):
            self.file(name)
        # What is no file.
        os.mkfifo(self.at("fifo"), 0o640)
        if ROOT:
            os.mknod(self.at("character"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
            os.mknod(self.at("block"), stat.S_IFBLK | 0o660, os.makedev(200, 70000))
            self.link("character", "far/character")
        # Holes, attributes, ACLs.
        self.sparse("sparse/small", 300_000)
        self.sparse("sparse/large", 20_000_000)
        for number in range(4):
            self.file(f"attributes/{number}")
            self.set(f"attributes/{number}", user_common=b"common")
        self.set("attributes/1", user_long=b"l" * 2000, user_empty=b"")
        self.set("attributes", user_directory=b"d")
        self.set("", user_root=b"the root's own")
        self.set("links/one", user_linked=b"1")
        os.chmod(self.file("attributes/closed"), 0o600)
        self.set("attributes/closed", user_closed=b"c")
        os.chmod(self.at("attributes/closed"), 0o444)
        self.acl("attributes/2", "access", 6, 1000, 4, 0, 4, 0)
        self.acl("attributes/3", "access", 7, 1, 7, 5, 7, 5)
        self.acl("same", "default", 7, 1000, 5, 5, 5, 0)
        self.directory("attributes/acl")
        self.acl("attributes/acl", "access", 7, 1000, 7, 5, 7, 5)
        self.acl("attributes/acl", "default", 7, 1000, 7, 5, 7, 0)
        if ROOT:
            for number, name in enumerate(("links/one", "same/a", "names", "far/symlink", "fifo", "modes/0")):
                os.lchown(self.at(name), 1000 + number, 100 + number)
            os.chmod(self.at("modes/0"), 0o4755)
            self.set("attributes/0", security_capability=CAPABILITY)
            self.set("attributes/0", trusted_mark=b"0")
            for name in ("links/symlink", "fifo", "character", "modes/sticky"):
                self.set(name, trusted_mark=os.fsencode(name))
        for name in ("same/a", "names/long-target", "fifo", "modes/1", "empty/of", "sparse/small", "links/two", "far"):
            self.time(name)
        os.chmod(self.at("read-only/below"), 0o555)
        os.chmod(self.at("read-only"), 0o555)

    def replace(self, name, make):
        self.remove(name)
        make(self.at(name))

    def remove(self, name):
        path = self.at(name)
        if os.path.isdir(path) and not os.path.islink(path):
            for below in os.listdir(path):
                self.remove(os.path.join(os.fsencode(name), below))
            os.rmdir(path)
        else:
            os.unlink(path)

    def move(self, old, new):
        os.makedirs(os.path.dirname(self.at(new)), exist_ok=True)
        os.rename(self.at(old), self.at(new))

    def second(self):
        # A link made, one broken, one that changes through another name, one of the many gone.
        self.remove("links/gains")
        self.link("links/alone", "links/gains")
        with open(self.at("links/to-break"), "rb") as old:
            content = old.read()
        self.remove("links/broken")
        self.file("links/broken", content)
        with open(self.at("far/away/three"), "ab") as out:
            out.write(b"written through another name")
        self.remove("many/7")
        self.link("many/0", "far/one-more")
        self.remove("links/symlink")
        self.remove("same/b")
        self.link("same/a", "same/b")
        # Moves: a file, a directory, two that change places, one over another.
        self.move("moves/file", "elsewhere/file")
        self.move("moves/directory", "elsewhere/deeper/directory")
        self.move("moves/swap-a", "moves/swap")
        self.move("moves/swap-b", "moves/swap-a")
        self.move("moves/swap", "moves/swap-b")
        self.move("other/same", "same/c")
        # Something else in the place.
        self.remove("turns/file-to-directory")
        self.file("turns/file-to-directory/below/deep")
        self.replace("turns/directory-to-file", lambda path: self.file("turns/directory-to-file"))
        self.replace("turns/symlink-to-directory", os.mkdir)
        self.file("turns/symlink-to-directory/x")
        self.replace("turns/directory-to-symlink", lambda path: os.symlink(b"../same", path))
        self.replace("turns/file-to-symlink", lambda path: os.symlink(b"file", path))
        self.replace("turns/symlink-to-file", lambda path: self.file("turns/symlink-to-file"))
        self.replace("turns/file-to-fifo", os.mkfifo)
        self.file(b"names/" + b"L" * 255)
        self.remove(b"names/" + b"l" * 255)
        self.file(b"names/not \xff\xfe utf-8 \x80")
        # Inside what may not be written to.
        if not ROOT:
            os.chmod(self.at("read-only"), 0o755)
            os.chmod(self.at("read-only/below"), 0o755)
        self.remove("read-only/a")
        self.file("read-only/new")
        self.file("read-only/below/c")
        os.chmod(self.at("read-only/below"), 0o555)
        os.chmod(self.at("read-only"), 0o555)
        os.chmod(self.at("modes/2"), 0o644)
        os.chmod(self.at("modes/5"), 0o4755)
        os.chmod(self.at("modes/sticky"), 0o755)
        self.remove("empty/of/all")
        self.directory("empty/another")
        if ROOT:
            self.replace("block", lambda path: os.mknod(path, stat.S_IFBLK | 0o660, os.makedev(8, 1)))
            os.lchown(self.at("same/a"), 7, 8)
            os.lchown(self.at("attributes/0"), 9, 9)
            self.set("attributes/0", security_capability=CAPABILITY)
            self.set("fifo", trusted_mark=b"another")
            self.set("modes/3", trusted_new=b"1")
        self.sparse("sparse/large", 22_000_000)
        self.sparse("sparse/more", 5_000_000)
        # Attributes and ACLs: changed, gone, added, inherited.
        self.set("attributes/1", user_common=b"other")
        os.removexattr(self.at("attributes/1"), "user.empty")
        os.removexattr(self.at("attributes/2"), "system.posix_acl_access")
        os.chmod(self.at("attributes/3"), 0o640)
        self.set("attributes/2", user_added=b"2")
        self.set("far/away/three", user_linked=b"2")
        self.set("", user_root=b"another")
        self.file("attributes/acl/inherits")
        self.directory("attributes/acl/directory")
        os.removexattr(self.at("same"), "system.posix_acl_default")
        for name in ("same/c", "names/odd-target", "modes/1", "empty", "elsewhere", "sparse/large", ""):
            self.time(name)


def names(top):
    """Every path below, as bytes."""
    for directory, dirs, files in os.walk(os.fsencode(top)):
        for name in dirs + files:
            yield os.path.join(directory, name)


def left_out(top, uid):
    """What a mirror run by `uid` has not of this tree: entries by owner, device, attribute."""
    counts = {"owners": 0, "devices": 0, "xattrs": 0}
    for path in [os.fsencode(top), *names(top)]:
        status = os.lstat(path)
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            counts["devices"] += 1
            continue
        if path != os.fsencode(top):
            counts["owners"] += (status.st_uid, status.st_gid) != (uid, uid)
        counts["xattrs"] += any(name.startswith(("trusted.", "security."))
                                for name in os.listxattr(path, follow_symlinks=False))
    return counts


def allocated(top):
    """Bytes on disk, an inode once."""
    return sum({(s.st_dev, s.st_ino): s.st_blocks * 512 for s in map(os.lstat, names(top))}.values())
