"""A publisher written from proto/*.md alone, that says whatever a test wants said, true or not.

`Key` is an OpenPGP key, `Stream` what one publisher has said so far, `Bus` the two sockets that all
streams speak over. Every part of what is sent can be replaced before or after it is signed.
"""
import collections
import pathlib
import struct
import subprocess
import sys
import threading
import time

import msgpack
import nacl.signing
import zmq

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "interop"))
from subscriber import leaf, node, root_of, sha256

BASE = "org.example.dev"
HOUR = 3600 * 10**9
GIB = 1 << 30


def string8(text):
    data = text.encode() if isinstance(text, str) else text
    return bytes([len(data)]) + data


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


class Key:
    """A key in the GnuPG home `home`, which is made if it is not there."""

    def __init__(self, home, name):
        self.home, self.name = pathlib.Path(home), name
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.gpg("--passphrase", "", "--quick-gen-key", f"{name}@example.org", "ed25519", "sign", "1y")
        listed = self.gpg("--with-colons", "--list-keys", f"{name}@example.org").decode()
        self.fingerprint = next(
            line for line in listed.splitlines() if line.startswith("fpr:")
        ).split(":")[9]

    def gpg(self, *arguments, home=None, stdin=b""):
        command = ["gpg", "--homedir", home or self.home, "--batch", "--quiet", *arguments]
        return subprocess.run(command, input=stdin, check=True, capture_output=True).stdout

    def sign(self, document):
        return self.gpg("--local-user", self.fingerprint, "--detach-sign", stdin=document)

    def export_to(self, home):
        pathlib.Path(home).mkdir(mode=0o700, exist_ok=True)
        self.gpg("--import", home=home, stdin=self.gpg("--export", self.fingerprint))

    def revoke_in(self, home):
        """Imports the certificate that gpg wrote when it made the key; a colon guards it."""
        certificate = self.home / "openpgp-revocs.d" / (self.fingerprint + ".rev")
        text = certificate.read_text().replace(":-----BEGIN", "-----BEGIN")
        self.gpg("--import", home=home, stdin=text.encode())


# ---- event.md, batch.md ----


def encode_event(seq, when, topic, body, *, base=3, deltas=None):
    """`deltas` of 1 say no more than that the event before is the event before."""
    levels = topic.count(".") + 1 - base
    deltas = [1] * levels if deltas is None else deltas
    return (
        struct.pack(">BBQQBB", 1, 0, seq, when, base, len(deltas))
        + b"".join(varint(d) for d in deltas) + body
    )


def path_of(leaves, index):
    """The siblings of one leaf, from the leaf up."""
    path, level = [], list(leaves)
    while len(level) > 1:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        pairs = [node(*level[i : i + 2]) for i in range(0, len(level) - 1, 2)]
        level, index = pairs + level[len(pairs) * 2 :], index // 2
    return path


class Batch:
    """A signed batch, and how it travels: `frames` on PUB, `row` in replays."""

    def __init__(self, sealed, items):
        self.sealed, self.items = sealed, items
        leaves = [leaf(topic.encode(), event) for topic, event in items]
        self.frames = [
            topic.encode() + b"\0" + sealed + bytes([len(path)]) + b"".join(path) + event
            for (topic, event), path in zip(items, (path_of(leaves, i) for i in range(len(items))))
        ]

    @property
    def row(self):
        return self.sealed + b"".join(
            string8(topic) + struct.pack(">I", len(event)) + event for topic, event in self.items
        )


# ---- head.md ----


def control(kind, stream_id, payload):
    return b"\1" + kind + stream_id + payload


class Stream:
    """What one publisher name under one key says. Nothing here sends; see Bus."""

    def __init__(self, bus, key, publisher):
        self.bus, self.key, self.publisher = bus, key, publisher
        self.session = nacl.signing.SigningKey.generate()
        self.epoch = time.time_ns() // 10**6
        self.number = self.seq = self.beat = 0
        self.previous = bytes(32)
        self.batches = []  # (first seq, last seq, Batch): what replay gives
        fingerprint = bytes.fromhex(key.fingerprint)
        self.name = b"\1" + string8(fingerprint) + string8(publisher)
        self.id = sha256(self.name)
        self.credentials = {}  # id -> sealed
        self.credential = None  # the id of the one in use
        self.sealed = b""
        bus.streams[self.id] = self

    # -- credential.md --

    def document(self, *, issued=None, not_before=None, not_after=None, scopes=("**",), serial=0,
                 epoch=None, content=""):
        now = time.time_ns()
        issued = now if issued is None else issued
        document = b"mirrorbus-cred\0\0" + struct.pack(
            ">BBHQIQQQ", 1, 1, 1 if serial == 0 else 0, epoch or self.epoch, serial, issued,
            issued - HOUR if not_before is None else not_before,
            issued + 24 * HOUR if not_after is None else not_after,
        )
        document += bytes(self.session.verify_key) + bytes(32) + bytes(56)
        document += string8(bytes.fromhex(self.key.fingerprint)) + string8(self.publisher)
        document += bytes([len(scopes)]) + b"".join(string8(s) for s in scopes)
        endpoints = [(1, self.bus.publish), (2, self.bus.serve)] + ([(3, content)] if content else [])
        document += bytes([len(endpoints)])
        return document + b"".join(bytes([kind]) + string8(address) for kind, address in endpoints)

    def seal(self, document, signature=None):
        signature = self.key.sign(document) if signature is None else signature
        return struct.pack(">I", len(document)) + document + struct.pack(">H", len(signature)) + signature

    def use(self, document, signature=None):
        """From now on batches and heads are signed under this credential; gives it sealed."""
        self.credential = sha256(document)
        self.sealed = self.seal(document, signature)
        self.credentials[self.credential] = self.sealed
        return self.sealed

    def announce(self):
        self.bus.send(control(b"C", self.id, self.sealed))

    # -- what is signed --

    def header(self, items, *, when, number, first_seq, root=None, count=None, previous=None):
        root = root or root_of([leaf(topic.encode(), event) for topic, event in items])
        return b"mirrorbus-batch\0" + struct.pack(
            ">BBH32sQQQQ32s32s", 1, 1, len(items) if count is None else count, self.credential,
            self.epoch, number, first_seq, when, root, self.previous if previous is None else previous,
        )

    def batch(self, events, *, when=None, remember=True, number=None, tail=None, **fields):
        """The next batch, of (topic, body) pairs. `remember`: it is part of this stream's history."""
        when = when or time.time_ns()
        items = [
            (topic, encode_event(self.seq + 1 + i, when, topic, body, **fields))
            for i, (topic, body) in enumerate(events)
        ]
        header = self.header(
            items, when=when, number=number or self.number + 1, first_seq=self.seq + 1, previous=tail
        )
        batch = Batch(header + self.session.sign(header).signature, items)
        if remember:
            self.number += 1
            self.batches.append((self.seq + 1, self.seq + len(items), batch))
            self.seq += len(items)
            self.previous = sha256(header)
        return batch

    def head(self, *, when=None, beat=None, session=None, last=None, prefix=BASE,
             change=lambda signed: signed):
        self.beat += 1
        last = self.seq if last is None else last
        signed = b"mirrorbus-head\0\0" + struct.pack(
            ">BBH32s32sQQQIQQQQ32s", 1, 0, 1 if last else 0, self.id, self.credential, self.epoch,
            beat or self.beat, when or time.time_ns(), 1000, 0, last, 1, self.number, self.previous,
        )
        if last:
            signed += string8(prefix) + struct.pack(">Q", last)
        seal = (session or self.session).sign(signed).signature
        return control(b"H", self.id, change(signed) + seal)


class Bus:
    """PUB and serve socket at one pair of endpoints, for any number of streams. Questions are answered on
    a thread; what a test puts into `answers` under (verb, stream id) is given first: functions from
    request to frames. `streams`: all there are, by id."""

    def __init__(self, publish, serve, streams):
        self.publish, self.serve, self.streams = publish, serve, streams
        self.answers = collections.defaultdict(collections.deque)
        self.asked = collections.Counter()  # by verb
        self.subscriptions = collections.Counter()
        context = zmq.Context.instance()
        self.pub = context.socket(zmq.XPUB)
        self.pub.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.pub.sndhwm = 0
        self.router = context.socket(zmq.ROUTER)
        for socket, endpoint in ((self.pub, publish), (self.router, serve)):
            socket.linger = 0
            socket.bind(endpoint)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.answer_all, daemon=True)
        self.thread.start()

    def close(self):
        """After `stopping` is set."""
        self.thread.join()
        self.pub.close()
        self.router.close()

    def wait_for_subscriptions(self, prefix, count, timeout=20):
        """Until `count` subscribers have said that they want `prefix`."""
        deadline = time.monotonic() + timeout
        while self.subscriptions[prefix] < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody subscribed to {prefix}: {self.subscriptions}")
            if self.pub.poll(50):
                message = self.pub.recv()
                self.subscriptions[message[1:]] += 1 if message[:1] == b"\1" else -1

    def send(self, *frames):
        for frame in frames:
            self.pub.send(frame)

    # -- serve.md --

    def answer_all(self):
        while not self.stopping.is_set():
            if not self.router.poll(100):
                continue
            peer, *parts = self.router.recv_multipart()
            request = msgpack.unpackb(parts[0])
            stream = self.streams.get(request.get("stream"))
            self.asked[request["verb"]] += 1
            prepared = self.answers[request["verb"], stream.id if stream else None]
            answer = prepared.popleft() if prepared else self.honest
            self.router.send_multipart([peer, *answer(request)])

    def honest(self, request):
        """What a publisher that has nothing to hide answers."""
        stream = self.streams.get(request.get("stream"))
        if wanted := request.get("credential"):
            found = [s.credentials[wanted] for s in self.streams.values() if wanted in s.credentials]
            return ok(request, parts=found) if found else refused(request, "not_held")
        if not stream:
            return refused(request, "not_held")
        if request["verb"] == "credential":
            return ok(request, parts=list(stream.credentials.values())[::-1])
        if request["verb"] == "replay":
            if request["from"] > stream.seq:
                return refused(request, "not_held")
            rows = [b.row for first, last, b in stream.batches
                    if last >= request["from"] and first <= request["to"]]
            through = min(request["to"], stream.seq)
            return ok(request, parts=rows, through=through, more=False, oldest=1, last=stream.seq)
        return refused(request, "unknown_verb")


def ok(request, parts=(), **fields):
    return [msgpack.packb({"v": 1, "id": request["id"], "status": "ok", **fields}), *parts]


def refused(request, why):
    return [msgpack.packb({"v": 1, "id": request["id"], "status": why})]
