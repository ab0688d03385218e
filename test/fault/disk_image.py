"""A disk of its own for a test: an ext4 on a loop device, in a mount namespace of the test's own, that can be filled
up, have quotas, become read-only, go away and come back."""
import ctypes
import mmap
import os
import struct

import namespaces

Q_SETQUOTA, USRQUOTA = 0x800008, 0
QIF_BLIMITS = 1


class DiskImage:
    """Mounted at `path`, `size` bytes. Raises RuntimeError where that may not be done. `measured`: for times that are
    to be compared: it has all its space from the start, nothing is initialised later, and what is written is not
    cached below it once more."""

    def __init__(self, path, size, options="", features="", measured=False):
        self.path, self.options = path, options
        self.image = path.with_name(path.name + ".image")
        with open(self.image, "wb") as image:
            if measured:  # or who writes first allocates for the others
                for _ in range(size >> 20):
                    image.write(bytes(1 << 20))
                os.fsync(image)
            image.truncate(size)
        self.how = ["-O", features] if features else []
        if measured:
            self.how += ["-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"]
        direct = ["--direct-io=on"] if measured else []
        self.device = namespaces.run("losetup", "--find", "--show", *direct, str(self.image)).strip()
        path.mkdir()
        try:
            self.make_new()
            self.mount()
            (path / "lost+found").rmdir()
        except BaseException:
            self.close()
            raise

    def make_new(self):
        """While it is not mounted."""
        namespaces.run("mkfs.ext4", "-q", "-F", "-m", "0", *self.how, self.device)

    def mount(self):
        options = ["-o", self.options] if self.options else []
        namespaces.run("mount", "-t", "ext4", *options, self.device, str(self.path))

    def unmount(self):
        namespaces.run("umount", "--lazy", str(self.path))

    def close(self):
        """However it stands."""
        for command in (["umount", "--lazy", str(self.path)], ["losetup", "--detach", self.device]):
            try:
                namespaces.run(*command)
            except RuntimeError:
                pass

    def read_only(self, yes):
        namespaces.run("mount", "-o", f"remount,{'ro' if yes else 'rw'}", str(self.path))

    def fill(self, leave=0):
        """Leaves so many bytes."""
        with open(self.path / "filler", "ab", buffering=0) as filler:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError:
                    pass
            os.fsync(filler)
            filler.truncate(max(0, filler.tell() - leave))

    def empty(self):
        (self.path / "filler").unlink()

    def rot(self, file, chance):
        """Flips a bit of its content on the disk, which the file system is not told of."""
        content = file.read_bytes()
        os.sync()
        with open(self.image, "r+b") as image, mmap.mmap(image.fileno(), 0) as disk:
            bit, at, found = chance.randrange(min(len(content), 4096) * 8), 0, 0
            while (at := disk.find(content[:4096], at)) >= 0:
                disk[at + bit // 8] ^= 1 << bit % 8
                found, at = found + 1, at + 1
            disk.flush()
        with open(file, "rb") as held:
            os.posix_fadvise(held.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if not found or file.read_bytes() == content:
            raise RuntimeError(f"{file} was not changed on the disk ({found} places)")

    def quota(self, blocks, uid=0):
        """The user may have so many KiB there; 0: as much as there is. OSError where there are none."""
        limits = struct.pack("=8QI4x", blocks, blocks, 0, 0, 0, 0, 0, 0, QIF_BLIMITS)
        libc = ctypes.CDLL(None, use_errno=True)
        command = ctypes.c_int((Q_SETQUOTA << 8 | USRQUOTA) & 0xFFFFFFFF)
        if libc.quotactl(command, self.device.encode(), uid, limits) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
