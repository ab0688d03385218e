#!/usr/bin/python3
"""A subscriber written from proto/*.md alone, with nothing of the project's code.

    subscriber.py --publish ENDPOINT --serve ENDPOINT --home GNUPGHOME [--prefix TOPIC]
                  [--since now|start] [--count N] [--timeout S]

Prints one JSON object a line: an event that was verified, a refused frame ({"refused": why, ...}) or a
gap. Ends with 0 after N events, with 1 if they do not come within S seconds.
"""
import argparse
import collections
import hashlib
import json
import os
import struct
import subprocess
import sys
import tempfile
import time

import msgpack
import nacl.exceptions
import nacl.signing
import zmq

SKEW_NS = 300 * 10**9
HEADER_SIZE, SEAL_SIZE = 148, 64
MAX_FRAME, MAX_EVENT, MAX_TOPIC = 131072, 65536, 255
TOPIC_BYTES = set(b"abcdefghijklmnopqrstuvwxyz0123456789_-")


class Refused(Exception):
    """Something that came from outside is not what it should be; the text is the reason's name."""


def require(condition, reason):
    if not condition:
        raise Refused(reason)


def sha256(data):
    return hashlib.sha256(data).digest()


class Reader:
    """Reads big-endian fields forward; refuses to read past the end."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def raw(self, size):
        require(len(self.data) - self.at >= size, "truncated")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size):
        return int.from_bytes(self.raw(size), "big")

    def string8(self):
        return self.raw(self.number(1))

    def varint(self):
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            require(value < 2**64, "too_large")
            if byte < 0x80:
                require(byte or not shift, "not_canonical")
                return value
            shift += 7

    def rest(self):
        return self.raw(len(self.data) - self.at)

    def end(self):
        require(self.at == len(self.data), "trailing_bytes")


# ---- topic.md ----


def check_topic(topic):
    segments = topic.split(b".")
    good = len(topic) <= MAX_TOPIC and len(segments) <= 32
    require(good and all(s and TOPIC_BYTES.issuperset(s) for s in segments), "bad_topic")


def is_under(topic, prefix):
    return not prefix or topic == prefix or topic.startswith(prefix + b".")


def matches(pattern, topic):
    """Lists of segments."""
    if not pattern:
        return not topic
    if pattern[0] == b"**":
        return any(matches(pattern[1:], topic[i:]) for i in range(len(topic) + 1))
    return bool(topic) and pattern[0] in (b"*", topic[0]) and matches(pattern[1:], topic[1:])


# ---- event.md ----

Event = collections.namedtuple("Event", "seq time base deltas body")


def decode_event(data):
    require(len(data) <= MAX_EVENT, "too_large")
    r = Reader(data)
    require(r.number(1) == 1, "bad_version")
    exact = r.number(1)
    seq, when, base, levels = r.number(8), r.number(8), r.number(1), r.number(1)
    require(seq >= 1, "bad_field")
    require(base + levels <= 32, "too_large")
    require(exact <= levels, "bad_field")
    deltas = [r.varint() for _ in range(levels)]
    require(all(1 <= d <= seq for d in deltas), "bad_field")
    return Event(seq, when, base, deltas, r.rest())


def previous(event, prefix_segments):
    if prefix_segments <= event.base or not event.deltas:
        return event.seq - 1
    return event.seq - event.deltas[min(prefix_segments - event.base, len(event.deltas)) - 1]


def leaf(topic, event):
    return sha256(b"\0" + topic + b"\0" + event)


# ---- batch.md ----

Header = collections.namedtuple(
    "Header", "count credential epoch number first_seq time root previous"
)


def decode_header(data):
    require(len(data) >= HEADER_SIZE, "truncated")
    require(data[:16] == b"mirrorbus-batch\0", "bad_magic")
    version, suite, *fields = struct.unpack(">BBH32sQQQQ32s32s", data[16:HEADER_SIZE])
    require((version, suite) == (1, 1), "bad_version")
    header = Header(*fields)
    require(1 <= header.count <= 256, "bad_count")
    require(header.epoch and header.number and header.first_seq, "bad_field")
    return header


def node(left, right):
    return sha256(b"\1" + left + right)


def path_leads_to(root, leaf_hash, index, count, path):
    here, r = leaf_hash, Reader(path)
    while count > 1:
        if index ^ 1 < count:
            sibling = r.raw(32)
            here = node(sibling, here) if index & 1 else node(here, sibling)
        index, count = index // 2, (count + 1) // 2
    r.end()
    return here == root


def root_of(leaves):
    while len(leaves) > 1:
        pairs = [node(*leaves[i : i + 2]) for i in range(0, len(leaves) - 1, 2)]
        leaves = pairs + leaves[len(pairs) * 2 :]
    return leaves[0]


def decode_frame(data):
    require(len(data) <= MAX_FRAME, "too_large")
    topic, zero, rest = data.partition(b"\0")
    require(zero, "bad_topic")
    check_topic(topic)
    r = Reader(rest)
    sealed = r.raw(HEADER_SIZE + SEAL_SIZE)
    nodes = r.number(1)
    require(nodes <= 8, "too_large")
    path = r.raw(32 * nodes)
    return topic, sealed, path, r.rest()


def decode_row(data):
    r = Reader(data)
    sealed = r.raw(HEADER_SIZE + SEAL_SIZE)
    header = decode_header(sealed)
    items = []
    for _ in range(header.count):
        topic = r.string8()
        items.append((topic, r.raw(r.number(4))))
    r.end()
    return sealed, header, items


# ---- credential.md ----

Credential = collections.namedtuple(
    "Credential",
    "id stream scheme fingerprint publisher epoch serial not_before not_after key pin_epoch"
    " pin_last new_journal scopes",
)


def decode_sealed(data):
    r = Reader(data)
    document = r.raw(r.number(4))
    signature = r.raw(r.number(2))
    r.end()
    return document, signature


def decode_credential(document):
    r = Reader(document)
    require(r.raw(16) == b"mirrorbus-cred\0\0", "bad_magic")
    require(r.number(1) == 1, "bad_version")
    scheme, flags = r.number(1), r.number(2)
    epoch, serial, issued, not_before, not_after = (r.number(n) for n in (8, 4, 8, 8, 8))
    key = r.raw(32)
    r.raw(32)  # the curve key
    pin_epoch, _, pin_last, _ = r.number(8), r.number(8), r.number(8), r.raw(32)
    fingerprint, publisher = r.string8(), r.string8()
    scopes = [r.string8().split(b".") for _ in range(r.number(1))]
    for _ in range(r.number(1)):
        r.number(1), r.string8()
    r.end()
    require(scheme == 1 and len(fingerprint) in (20, 32), "scheme_mismatch")
    require(epoch and not_before <= not_after, "bad_field")
    require(issued <= time.time_ns() + SKEW_NS, "credential_future")
    name = bytes([scheme, len(fingerprint)]) + fingerprint + bytes([len(publisher)]) + publisher
    return Credential(
        sha256(document), sha256(name), scheme, fingerprint, publisher.decode(), epoch, serial,
        not_before, not_after, nacl.signing.VerifyKey(key), pin_epoch, pin_last, bool(flags & 1),
        scopes,
    )


def gpg_verify(home, document, signature, fingerprint):
    with tempfile.TemporaryDirectory() as work:
        paths = [os.path.join(work, name) for name in ("signature", "document")]
        for path, data in zip(paths, (signature, document)):
            with open(path, "wb") as file:
                file.write(data)
        done = subprocess.run(
            ["gpg", "--homedir", home, "--batch", "--status-fd", "1", "--verify", *paths],
            capture_output=True, check=False, text=True,
        )
    require(done.returncode == 0, "bad_signature")
    valid = [line.split() for line in done.stdout.splitlines() if " VALIDSIG " in line]
    require(valid and valid[0][-1].lower() == fingerprint.hex(), "wrong_signer")


# ---- head.md ----

Head = collections.namedtuple(
    "Head", "credential epoch beat time next since last oldest batch header pairs"
)


def decode_head(data, stream):
    r = Reader(data)
    require(r.raw(16) == b"mirrorbus-head\0\0", "bad_magic")
    require(r.number(1) == 1, "bad_version")
    require(r.number(1) == 0, "bad_flags")
    count = r.number(2)
    require(r.raw(32) == stream, "wrong_stream")
    credential = r.raw(32)
    numbers = [r.number(n) for n in (8, 8, 8, 4, 8, 8, 8, 8)]
    header = r.raw(32)
    pairs = [(r.string8(), r.number(8)) for _ in range(count)]
    r.end()
    return Head(credential, *numbers, header, pairs)


# ---- the subscriber ----


class Stream:
    def __init__(self):
        self.epoch = 0
        self.beat = 0
        self.position = None  # complete up to here, under the prefix
        self.held = {}  # events that came too early, by seq
        self.headers = {}  # batch number -> hash of its header, of this epoch
        self.asking = None  # (request id, when it was asked)
        self.wanted = 0


class Subscriber:
    def __init__(self, options):
        self.options = options
        self.prefix = options.prefix.encode()
        self.prefix_segments = len(self.prefix.split(b".")) if self.prefix else 0
        self.credentials = {}
        self.streams = {}
        self.good_headers = set()
        self.printed = 0
        self.next_request = 1
        context = zmq.Context.instance()
        self.sub = context.socket(zmq.SUB)
        for start in [b"\1"] + ([self.prefix + b".", self.prefix + b"\0"] if self.prefix else [b""]):
            self.sub.subscribe(start)
        self.sub.connect(options.publish)
        self.dealer = context.socket(zmq.DEALER)
        self.dealer.connect(options.serve)
        for socket in (self.sub, self.dealer):
            socket.linger = 0

    def say(self, **fields):
        print(json.dumps(fields, sort_keys=True), flush=True)

    # -- what comes in --

    def run(self):
        deadline = time.monotonic() + self.options.timeout
        poller = zmq.Poller()
        poller.register(self.sub, zmq.POLLIN)
        poller.register(self.dealer, zmq.POLLIN)
        while self.printed < self.options.count:
            if time.monotonic() > deadline:
                return 1
            for socket, _ in poller.poll(100):
                parts = socket.recv_multipart()
                try:
                    if socket is self.dealer:
                        self.take_answer(parts)
                    elif parts[0][:1] == b"\1":
                        self.take_control(parts[0])
                    else:
                        self.take_frame(parts[0])
                except Refused as why:
                    self.say(refused=str(why), topic=parts[0].split(b"\0")[0].decode("latin-1"))
            for stream_id, stream in self.streams.items():
                self.pursue(stream_id, stream)
        return 0

    def take_control(self, data):
        kind, stream_id, payload = data[1:2], data[2:34], data[34:]
        if kind == b"C":
            self.take_credential(payload)
        elif kind == b"H":
            self.take_head(stream_id, payload)
        else:
            raise Refused("bad_field")

    def take_credential(self, sealed):
        document, signature = decode_sealed(sealed)
        if sha256(document) in self.credentials:
            return
        credential = decode_credential(document)
        gpg_verify(self.options.home, document, signature, credential.fingerprint)
        self.credentials[credential.id] = credential
        stream = self.streams.setdefault(credential.stream, Stream())
        if credential.epoch > stream.epoch:
            if stream.position is not None and credential.serial == 0:
                stream.wanted = max(stream.wanted, credential.pin_last)
            stream.epoch, stream.beat, stream.headers = credential.epoch, 0, {}

    def credential_for(self, credential_id, epoch, when, live):
        require(credential_id in self.credentials, "unknown_credential")
        credential = self.credentials[credential_id]
        require(credential.epoch == epoch, "bad_field")
        require(when >= credential.not_before, "credential_not_yet")
        require(when <= credential.not_after, "credential_expired")
        if live:
            require(time.time_ns() <= credential.not_after + SKEW_NS, "credential_expired")
        return credential

    @staticmethod
    def check_seal(credential, signed, seal):
        try:
            credential.key.verify(signed, seal)
        except (nacl.exceptions.BadSignatureError, ValueError):
            raise Refused("bad_signature") from None

    def remember_header(self, stream, header, data):
        hash_ = sha256(data)
        require(stream.headers.get(header.number, hash_) == hash_, "equivocation")
        before = stream.headers.get(header.number - 1)
        require(before in (None, header.previous), "bad_chain")
        stream.headers[header.number] = hash_

    def take_frame(self, data):
        topic, sealed, path, event_bytes = decode_frame(data)
        signed, seal = sealed[:HEADER_SIZE], sealed[HEADER_SIZE:]
        header = decode_header(signed)
        credential = self.credential_for(header.credential, header.epoch, header.time, True)
        stream = self.streams[credential.stream]
        require(header.epoch >= stream.epoch, "epoch_rollback")
        if sealed not in self.good_headers:
            self.check_seal(credential, signed, seal)
            self.remember_header(stream, header, signed)
            self.good_headers.add(sealed)
        event = decode_event(event_bytes)
        index = event.seq - header.first_seq
        require(0 <= index < header.count, "bad_index")
        good = path_leads_to(header.root, leaf(topic, event_bytes), index, header.count, path)
        require(good, "bad_path")
        if stream.position is None or not is_under(topic, self.prefix):
            return
        if event.seq > stream.position:
            stream.held[event.seq] = (credential, header.epoch, topic, event)
            self.drain(stream)

    def take_head(self, stream_id, payload):
        signed, seal = payload[:-SEAL_SIZE], payload[-SEAL_SIZE:]
        head = decode_head(signed, stream_id)
        credential = self.credential_for(head.credential, head.epoch, head.time, True)
        require(credential.stream == stream_id, "wrong_stream")
        self.check_seal(credential, signed, seal)
        stream = self.streams[stream_id]
        require((head.epoch, head.beat) > (stream.epoch, stream.beat), "stale_head")
        require(abs(head.time - time.time_ns()) <= SKEW_NS, "clock_skew")
        stream.epoch, stream.beat = head.epoch, head.beat
        if stream.position is None:
            stream.position = head.last if self.options.since == "now" else max(head.oldest, 1) - 1
        if stream.position < head.oldest - 1:
            self.say(gap={"from": stream.position + 1, "to": head.oldest - 1})
            stream.position = head.oldest - 1
        if stream.position < head.since:
            stream.wanted = max(stream.wanted, head.last)
            return
        touching = [
            last for prefix, last in head.pairs
            if is_under(prefix, self.prefix) or is_under(self.prefix, prefix)
        ]
        most = max(touching, default=0)
        if most > stream.position:
            stream.wanted = max(stream.wanted, most)
        else:
            stream.position = max(stream.position, head.last)

    # -- order --

    def drain(self, stream):
        for seq in sorted(stream.held):
            credential, epoch, topic, event = stream.held[seq]
            if seq > stream.position:
                before = previous(event, self.prefix_segments)
                if before > stream.position:
                    stream.wanted = max(stream.wanted, before)
                    return
                self.deliver(stream, credential, epoch, topic, event)
            del stream.held[seq]

    def deliver(self, stream, credential, epoch, topic, event):
        stream.position = event.seq
        segments = topic.split(b".")
        if not any(matches(scope, segments) for scope in credential.scopes):
            self.say(refused="scope_denied", topic=topic.decode())
            return
        self.printed += 1
        self.say(
            topic=topic.decode(), publisher=credential.publisher, epoch=epoch, seq=event.seq,
            time=event.time, body=msgpack.unpackb(event.body), verified=True,
            signer="openpgp:" + credential.fingerprint.hex(),
        )

    # -- replay --

    def ask(self, verb, **arguments):
        request = {"v": 1, "id": self.next_request, "verb": verb, **arguments}
        self.next_request += 1
        self.dealer.send(msgpack.packb(request))
        return request["id"]

    def pursue(self, stream_id, stream):
        if stream.position is None or stream.wanted <= stream.position:
            return
        if stream.asking and time.monotonic() - stream.asking[1] < 2:
            return
        number = self.ask(
            "replay", stream=stream_id, to=stream.wanted, prefix=self.prefix.decode(),
            bytes=1 << 20, **{"from": stream.position + 1},
        )
        stream.asking = (number, time.monotonic())

    def take_answer(self, parts):
        answer = msgpack.unpackb(parts[0])
        require(answer["v"] == 1, "bad_version")
        if answer["status"] == "ok" and "through" not in answer:
            for sealed in parts[1:]:  # a credential that was asked for
                self.take_credential(sealed)
            return
        for stream_id, stream in self.streams.items():
            if stream.asking and stream.asking[0] == answer["id"]:
                # Refused: the question is put again when its time is over.
                require(answer["status"] == "ok", answer["status"])
                if self.take_rows(stream_id, stream, answer, [decode_row(p) for p in parts[1:]]):
                    stream.asking = None

    def take_rows(self, stream_id, stream, answer, rows):
        """False if credentials must come first."""
        unknown = {header.credential for _, header, _ in rows} - self.credentials.keys()
        for credential_id in unknown:
            self.ask("credential", id=credential_id)
        if unknown:
            return False
        after = None  # the row behind, already believed
        for sealed, header, items in reversed(rows):
            credential = self.credential_for(header.credential, header.epoch, header.time, False)
            require(credential.stream == stream_id, "wrong_stream")
            chained = (
                after
                and (after.epoch, after.number) == (header.epoch, header.number + 1)
                and after.previous == sha256(sealed[:HEADER_SIZE])
            )
            if not chained:
                self.check_seal(credential, sealed[:HEADER_SIZE], sealed[HEADER_SIZE:])
            require(root_of([leaf(*item) for item in items]) == header.root, "bad_root")
            after = header
        for _, header, items in rows:
            credential = self.credentials[header.credential]
            for offset, (topic, data) in enumerate(items):
                event = decode_event(data)
                require(event.seq == header.first_seq + offset, "seq_mismatch")
                if event.seq <= stream.position or not is_under(topic, self.prefix):
                    continue
                require(previous(event, self.prefix_segments) <= stream.position, "bad_chain")
                self.deliver(stream, credential, header.epoch, topic, event)
        stream.position = max(stream.position, min(answer["through"], stream.wanted))
        self.drain(stream)
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--publish", required=True)
    parser.add_argument("--serve", required=True)
    parser.add_argument("--home", required=True, help="GnuPG home with the keys to trust")
    parser.add_argument("--prefix", default="")
    parser.add_argument("--since", choices=("now", "start"), default="now")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=30)
    return Subscriber(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
