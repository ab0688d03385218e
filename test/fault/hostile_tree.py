"""Trees, updates and packs written from proto/*.md alone, with every lie a test wants in them; and the
HTTP server that their content comes from (content.md)."""
import http.server
import os
import struct
import threading
import time

import msgpack

from hostile_publisher import sha256, varint
from victim import TOPIC

FILE, DIRECTORY, LINK = 1, 2, 3
LINKS, OWNERS = b"mbl\1", b"mbo\1\0\0"
MTIME = 1_700_000_000


def entry(name, kind, payload, *, mode=None, size=None, mtime=0):
    """`mtime`: the difference to the entry before."""
    mode = {FILE: 0o644, DIRECTORY: 0o755, LINK: 0o777}.get(kind, 0o644) if mode is None else mode
    return (
        bytes([len(name) if size is None else size]) + name + bytes([kind]) + varint(mode)
        + varint(os.geteuid()) + varint(os.getegid()) + varint(2 * mtime) + varint(0) + b"\0" + payload
    )


class Tree:
    """What a version is to hold. Directories are dicts, files bytes, links text; a list is a node made by
    hand: (encoded entries, what counts say of them)."""

    def __init__(self, content):
        self.content = content
        self.nodes, self.objects = {LINKS_ID: LINKS, OWNERS_ID: OWNERS}, {}
        self.counts = dict.fromkeys(("entries", "files", "directories", "symlinks", "bytes"), 0)
        self.root_node = self.node(content)
        self.root = (
            b"mirrorbus tree 1" + entry(b"", DIRECTORY, sha256(self.root_node), mtime=MTIME)
            + LINKS_ID + OWNERS_ID
        )
        self.hash = self.keep(self.root)

    def keep(self, blob):
        self.nodes[sha256(blob)] = blob
        return sha256(blob)

    def node(self, directory):
        if isinstance(directory, Raw):
            self.counts["entries"] += directory.entries
            self.counts["files"] += directory.entries
            self.keep(directory.node)
            return directory.node
        out, mtime = b"mbn\1", MTIME
        for name, what in sorted(directory.items()):
            out += self.entry(name, what, mtime)
            mtime = 0
        self.keep(out)
        return out

    def entry(self, name, what, mtime):
        self.counts["entries"] += 1
        if isinstance(what, bytes):
            self.counts["files"] += 1
            self.counts["bytes"] += len(what)
            self.objects[sha256(what)] = what
            return entry(name, FILE, varint(len(what)) + sha256(what), mtime=mtime)
        if isinstance(what, str):
            self.counts["symlinks"] += 1
            return entry(name, LINK, varint(len(what)) + what.encode(), mtime=mtime)
        self.counts["directories"] += 1
        return entry(name, DIRECTORY, sha256(self.node(what)), mtime=mtime)


class Raw:
    """A directory by the bytes of its node."""

    def __init__(self, *entries, magic=b"mbn\1", count=None):
        self.node = magic + b"".join(entries)
        self.entries = len(entries) if count is None else count


LINKS_ID, OWNERS_ID = sha256(LINKS), sha256(OWNERS)


def on_disk(path):
    """The directory as Tree takes it."""
    found = {}
    with os.scandir(os.fsencode(path)) as names:
        for item in names:
            if item.is_symlink():
                found[item.name] = os.readlink(item.path).decode()
            elif item.is_dir():
                found[item.name] = on_disk(item.path)
            else:
                with open(item.path, "rb") as file:
                    found[item.name] = file.read()
    return found


# ---- pack.md ----


def zstd(data, says=None, repeat=0):
    """A frame of blocks that are not compressed; or of `repeat` blocks of 128 KiB of one byte each."""
    frame = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", len(data) if says is None else says)
    blocks = [(0, data[at : at + 65536]) for at in range(0, len(data), 65536)] or [(0, b"")]
    blocks = [(1, b"x")] * repeat or blocks
    for i, (kind, block) in enumerate(blocks):
        size = 1 << 17 if kind else len(block)
        frame += struct.pack("<I", size << 3 | kind << 1 | (i == len(blocks) - 1))[:3] + block
    return frame


class Pack:
    """From one flat tree to another: the root's node and the contents that are new. What `lie` names is
    replaced."""

    def __init__(self, old, new, **lie):
        fresh = [c for name, c in sorted(new.content.items()) if old.content.get(name) != c]
        records = lie.get("records", varint(0) + varint(0) + varint(len(new.root_node)) + new.root_node)
        nodes = lie.get("nodes", zstd(records))
        group = lie.get("group", zstd(b"".join(fresh)))
        index = lie.get("base", old.hash) + varint(len(new.root)) + new.root + b"\0\0\0\0" + b"\1"
        index += varint(len(nodes)) + varint(lie.get("raw", len(records))) + b"\1\0\0"
        index += varint(len(fresh)) + b"\0" + b"\1" + varint(len(group)) + varint(len(fresh))
        index += b"\0\0" * len(fresh) + b"\0" + b"\0"  # no large files, no extensions
        index = lie.get("index", index)
        stored = lie.get("stored", zstd(index))
        sizes = lie.get("sizes", (len(stored), len(index)))
        head = b"mirrorbus pack 1" + struct.pack(">QQ", *sizes) + stored
        self.bytes = head + nodes + group
        self.reference = {
            "sha256": sha256(self.bytes), "size": len(self.bytes),
            "index_size": len(head), "index_sha256": sha256(head),
        }


# ---- content.md ----


class ContentServer(http.server.ThreadingHTTPServer):
    """Gives `nodes`, `objects` and `packs`; `instead` may answer otherwise: functions by folder, called
    with the request handler and the bytes that would be right."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.nodes, self.objects, self.packs, self.instead = {}, {}, {}, {}
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=[0.05], daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def close(self):
        self.stopping.set()
        self.shutdown()
        self.server_close()
        self.thread.join()

    def handle_error(self, request, client_address):
        """Who asked may hang up whenever he likes."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        folder, name = self.path.strip("/").split("/")
        held = getattr(self.server, folder).get(bytes.fromhex(name))
        self.answer(folder, held)

    def do_POST(self):
        folder = self.path.strip("/")
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        held = getattr(self.server, folder)
        hashes = [asked[at : at + 32] for at in range(0, len(asked), 32)]
        self.answer(folder, b"".join(record(each, held.get(each)) for each in hashes))

    def answer(self, folder, right):
        if folder in self.server.instead:
            return self.server.instead[folder](self, right)
        if right is None:
            return self.say(404, b"")
        first = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        if first:
            content = {"Content-Range": f"bytes {first}-{len(right) - 1}/{len(right)}"}
            return self.say(206 if first < len(right) else 416, right[first:], **content)
        self.say(200, right)

    def say(self, status, body, **headers):
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def pour(self, start=b"", more=bytes(65536)):
        """`start`, then `more` again and again, until nobody listens."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(start)
        while not self.server.stopping.is_set():
            self.wfile.write(more)


def record(name, content):
    if content is None:
        return name + b"\1" + bytes(8)
    return name + b"\0" + struct.pack(">Q", len(content)) + content


# ---- tree_version.md, tree_update.md ----


class Origin:
    """One tree's versions, published on a stream."""

    def __init__(self, stream, server):
        self.stream, self.server = stream, server
        self.id, self.number, self.parent = os.urandom(16), 0, bytes(32)

    def publish(self, tree, pack=None, *, held=True, fields=None):
        """`held`: the server has its nodes and contents. `fields`: of the event, to be replaced."""
        if held:
            self.server.nodes.update(tree.nodes)
            self.server.objects.update(tree.objects)
        if pack:
            self.server.packs[pack.reference["sha256"]] = pack.bytes
        self.number += 1
        body = {
            "tree": self.id, "number": self.number, "parent": self.parent, "tree_hash": tree.hash,
            "counts": tree.counts, "time": time.time_ns(),
            "changes": [], "changes_total": 0, "changes_more": True,
        }
        body |= {"pack": pack.reference} if pack else {}
        body |= fields or {}
        record_bytes = (
            b"mirrorbus vers 1" + body["tree"] + struct.pack(">Q", body["number"]) + self.parent
            + tree.hash + b"".join(map(varint, tree.counts.values()))
            + struct.pack(">Q", body["time"]) + b"\0"
        )
        self.parent = sha256(record_bytes)
        self.stream.bus.send(*self.stream.batch([(TOPIC, msgpack.packb(body))]).frames)
        return self.number
