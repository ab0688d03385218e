"""What a disk may hold after its power was lost, from the notes of test/support/power_loss.cpp.

What was synced is there: a file's bytes and size by a sync of the file, its name by a sync of its
directory. Of the rest each sector of a file holds what was written to it up to a random one of the writes
since, each new size may have come or not, and of the changes of names in a directory an arbitrary first
part has been made (or, every other time, for each name by itself). So writes are torn at sectors, and later
ones may be there without earlier ones. A disk that `lies` keeps nothing that it was told to sync.
"""
import os
import pathlib
import shutil
import struct

HEAD = struct.Struct("<5Q")
(START, CREATE, KNOWN, WRITE, TRUNCATE, BEGIN, SYNCED, FAILED, BEGIN_DIRECTORY, SYNCED_DIRECTORY, UNLINK, RENAME,
 MKDIR, UNKNOWN) = range(1, 15)


class File:
    def __init__(self):
        self.kept = bytearray()  # what is certain
        self.open = []  # (offset, bytes) or (new size,) since: not certain

    def settle(self, count):
        """The first `count` of what is open becomes certain."""
        for change in self.open[:count]:
            if len(change) == 1:
                self.resize(self.kept, change[0])
            else:
                self.put(self.kept, *change)
        del self.open[:count]

    def forget(self, count):
        del self.open[:count]

    @staticmethod
    def resize(into, size):
        del into[size:]
        into.extend(bytes(size - len(into)))

    @classmethod
    def put(cls, into, offset, data):
        if len(into) < offset:
            cls.resize(into, offset)
        into[offset : offset + len(data)] = data

    def after_loss(self, chance):
        """One of the things that it may hold."""
        if chance is None:
            return self.kept
        sector = chance.choice((512, 4096))
        writes = {}  # sector -> how many pieces were written to it
        for change in self.open:
            if len(change) == 2:
                for number in self.sectors(*change, sector):
                    writes[number] = writes.get(number, 0) + 1
        likely = chance.choice((0.0, 0.2, 0.5, 0.9, 1.0))
        takes = {
            number: count if chance.random() < likely else chance.randrange(count)
            for number, count in writes.items()
        }
        content = bytearray(self.kept)
        for change in self.open:
            if len(change) == 1:
                if chance.random() < 0.5:
                    self.resize(content, change[0])
                continue
            offset, data = change
            for number in self.sectors(offset, data, sector):
                if takes[number] > 0:
                    takes[number] -= 1
                    first = max(offset, number * sector)
                    self.put(content, first, data[first - offset : (number + 1) * sector - offset])
        return content

    @staticmethod
    def sectors(offset, data, sector):
        return range(offset // sector, (offset + len(data) + sector - 1) // sector)


class Directory:
    def __init__(self):
        self.kept = {}  # name -> File or Directory: certain
        self.open = []  # [(name, what or None), …] for each change since

    def now(self):
        names = dict(self.kept)
        for change in self.open:
            self.make(names, change)
        return names

    @staticmethod
    def make(names, change):
        for name, what in change:
            if what is None:
                names.pop(name, None)
            else:
                names[name] = what

    def settle(self, count):
        for change in self.open[:count]:
            self.make(self.kept, change)
        del self.open[:count]

    def after_loss(self, chance):
        names = dict(self.kept)
        if chance is None:
            return names
        if chance.random() < 0.5:
            for change in self.open[: chance.randrange(len(self.open) + 1)]:
                self.make(names, change)
        else:
            until = {}
            for change in self.open:
                for name, _ in change:
                    until.setdefault(name, chance.randrange(len(self.open) + 1))
            for i, change in enumerate(self.open):
                self.make(names, [(name, what) for name, what in change if i < until[name]])
        return names


class Disk:
    """Of the directory `root`, which is empty when the first daemon starts."""

    def __init__(self, root, log, lies=False):
        self.root, self.log, self.lies = pathlib.Path(root), pathlib.Path(log), lies
        self.top = Directory()
        self.syncs = 0
        self.files, self.begun = {}, {}  # of the process that runs

    # ---- the notes ----

    def read(self):
        """Takes in the notes since the last time."""
        data = self.log.read_bytes() if self.log.exists() else b""
        at = 0
        while at + HEAD.size <= len(data):
            kind, file, where, first, second = HEAD.unpack_from(data, at)
            end = at + HEAD.size + first + second
            if end > len(data):
                break  # cut off by the kill
            a = data[at + HEAD.size : end - second].decode()
            self.take(kind, file, where, a, data[end - second : end])
            at = end
        self.log.unlink(missing_ok=True)

    def take(self, kind, file, where, a, b):
        if kind == START:
            self.files, self.begun = {}, {}
        elif kind == CREATE:
            self.files[file] = File()
            self.change(a, self.files[file])
        elif kind == KNOWN:
            parent, name = self.parent(a)
            self.files[file] = parent.now()[name]
        elif kind == WRITE:
            self.files[file].open.append((where, b))
        elif kind == TRUNCATE:
            self.files[file].open.append((where,))
        elif kind == BEGIN:
            self.begun[where] = self.files[file], len(self.files[file].open)
        elif kind == BEGIN_DIRECTORY:
            directory = self.directory(a)
            self.begun[where] = directory, len(directory.open)
        elif kind in (SYNCED, SYNCED_DIRECTORY):
            what, count = self.begun.pop(where)
            self.syncs += 1
            if not self.lies:
                self.done(what, count, what.settle)
        elif kind == FAILED:
            # The kernel has dropped it and will call it clean: no later sync writes it.
            what, count = self.begun.pop(where)
            self.done(what, count, what.forget)
        elif kind == UNLINK:
            self.change(a, None)
        elif kind == RENAME:
            self.rename(a, b.decode())
        elif kind == MKDIR:
            self.change(a, Directory())
        else:
            raise RuntimeError(f"the daemon did what this model does not know: {a} on {b.decode()}")

    def done(self, what, count, with_first):
        """Another sync of the same may be under way."""
        with_first(count)
        for other, (of, begun) in self.begun.items():
            if of is what:
                self.begun[other] = of, max(0, begun - count)

    def parts(self, path):
        return pathlib.Path(path).relative_to(self.root).parts

    def directory(self, path):
        found = self.top
        for part in self.parts(path):
            found = found.now()[part]
        return found

    def parent(self, path):
        return self.directory(pathlib.Path(path).parent), pathlib.Path(path).name

    def change(self, path, what):
        parent, name = self.parent(path)
        if what is not None or name in parent.now():  # a socket is nothing to keep
            parent.open.append([(name, what)])

    def rename(self, old, new):
        (parent, name), (other, new_name) = self.parent(old), self.parent(new)
        if parent is not other:
            raise RuntimeError("a rename from one directory to another")
        parent.open.append([(new_name, parent.now()[name]), (name, None)])

    # ---- the loss ----

    def lose_power(self, chance):
        """What may be there becomes what is there: here, and below `root`. The daemon is dead, and so is
        everything it had open. Without `chance` only what is certain is there."""
        self.read()
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        self.write(self.top, self.root, chance)
        self.files, self.begun = {}, {}

    def write(self, directory, path, chance):
        directory.kept, directory.open = directory.after_loss(chance), []
        for name, what in directory.kept.items():
            if isinstance(what, Directory):
                os.mkdir(path / name, 0o700)
                self.write(what, path / name, chance)
            else:
                what.kept, what.open = what.after_loss(chance), []
                (path / name).write_bytes(what.kept)
