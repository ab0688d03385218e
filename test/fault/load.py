"""Acknowledged traffic, and the account of what became of it.

A Submitter sends events to a relay without end (proto/serve.md, verb `submit`) and keeps under which seq
each was acknowledged: the truth that subscribers are held to. An Account adds up what they had.
"""
import dataclasses
import random
import threading
import time

import msgpack
import zmq

TOPIC = "org.example.dev.shell.load.line"
AGAIN = 1.0  # seconds after which an unanswered submission is sent again


class Submitter(threading.Thread):
    """`rate`: events a second at most; `window`: so many may wait for their answer."""

    def __init__(self, endpoint, seed, rate=400, window=64, size=60):
        super().__init__(daemon=True)
        self.endpoint, self.rate, self.window, self.size = endpoint, rate, window, size
        self.sender = random.Random(seed).randbytes(16)
        self.acknowledged = {}  # n -> seq
        self.at = {}  # n -> time.monotonic() of its acknowledgement
        self.sent = 0
        self.wrong = []  # what must never be answered
        self.busy = 0
        self.pending = {}  # request id = n -> [when again, the request]
        self.pausing, self.stopping = threading.Event(), threading.Event()

    @classmethod
    def started(cls, case, *arguments, **settings):
        """Stops with the test `case`."""
        submitter = cls(*arguments, **settings)
        submitter.start()
        case.addCleanup(submitter.join)
        case.addCleanup(submitter.stopping.set)
        return submitter

    def run(self):
        with zmq.Context() as context:
            self.socket = self.connect(context)
            start = time.monotonic()
            credit = 0.0
            while not self.stopping.is_set():
                now = time.monotonic()
                credit = min(credit + (now - start) * self.rate, self.window)
                start = now
                while credit >= 1 and len(self.pending) < self.window and not self.pausing.is_set():
                    credit -= 1
                    self.submit(now)
                if self.socket.poll(5):
                    while self.socket.poll(0):
                        self.take(self.socket.recv_multipart())
                for waiting in self.pending.values():
                    if now > waiting[0]:
                        waiting[0] = now + AGAIN
                        self.send(waiting[1])
            self.socket.close()

    def connect(self, context):
        socket = context.socket(zmq.DEALER)
        socket.linger, socket.sndhwm = 0, 0
        socket.reconnect_ivl, socket.handshake_ivl = 50, 2000
        socket.heartbeat_ivl, socket.heartbeat_timeout = 1000, 3000
        socket.connect(self.endpoint)
        return socket

    def send(self, request):
        try:
            self.socket.send(request, zmq.DONTWAIT)
        except zmq.Again:
            pass  # nobody is connected: again later

    def submit(self, now):
        self.sent += 1
        body = msgpack.packb({"n": self.sent, "pad": "x" * self.size})
        request = msgpack.packb({
            "v": 1, "id": self.sent, "verb": "submit", "sender": self.sender, "n": self.sent,
            "topic": TOPIC, "body": body,
        })
        self.pending[self.sent] = [now + AGAIN, request]
        self.send(request)

    def take(self, parts):
        answer = msgpack.unpackb(parts[0])
        n = answer["id"]
        if answer["status"] == "busy":
            self.busy += 1
            if n in self.pending:
                self.pending[n][0] = time.monotonic() + answer["after_ms"] / 1000
        elif answer["status"] != "ok":
            self.wrong.append(f"{n} was refused: {answer['status']}")
            self.pending.pop(n, None)
        elif self.acknowledged.setdefault(n, answer["seq"]) != answer["seq"]:
            self.wrong.append(f"{n} is said to be {self.acknowledged[n]} and {answer['seq']}")
        else:
            self.at.setdefault(n, time.monotonic())
            self.pending.pop(n, None)

    def known(self):
        """What is acknowledged by now: {n: seq}."""
        return dict(self.acknowledged)

    def newest(self):
        """The highest seq acknowledged by now."""
        return max(self.known().values(), default=0)

    def idle(self):
        """After `pausing` was set: everything that was sent has been acknowledged."""
        return not self.pending and self.pausing.is_set()


def events_of(tail):
    """Those of a Submitter that a tail has printed."""
    return [e for e in tail.events if e["topic"] == TOPIC]


def caught_up(tail, seq):
    """When it had everything up to `seq` (time.time()), or nothing: events come in order."""
    count = len(tail.at)
    if not count or tail.events[count - 1]["seq"] < seq:
        return None
    return next(at for at, event in zip(tail.at, tail.events) if event["seq"] >= seq)


@dataclasses.dataclass
class Account:
    """One row of docs/faults.md."""

    name: str
    runs: int = 0
    events: int = 0  # acknowledged ones that subscribers were held to
    lost: int = 0  # of them: not delivered, also where a gap names them
    duplicated: int = 0  # came again to a subscriber that lived
    gaps: int = 0
    worst: float = 0.0  # recovery, in seconds: docs/faults.md
    more: str = ""
    complaints: list = dataclasses.field(default_factory=list)

    def complain(self, what):
        self.complaints.append(f"{self.name}: {what}")

    def recovered(self, seconds):
        self.worst = max(self.worst, seconds)

    def hold(self, lives, acknowledged, first=1):
        """`lives`: what each life of one subscriber has printed, as (events, gaps), one after the other.
        `acknowledged`: n -> seq; those from `first` on are owed to it."""
        had, last = {}, 0
        for events, gaps in lives:
            before = 0
            for event in events:
                seq, n = event["seq"], event["body"].get("n")
                if seq <= before:
                    self.duplicated += 1
                    self.complain(f"{seq} came after {before} to one that lived")
                before = max(before, seq)
                if had.setdefault(seq, (event["id"], n)) != (event["id"], n):
                    self.complain(f"{seq} was {had[seq]} and then {(event['id'], n)}")
            self.gaps += len(gaps)
            for gap in gaps:
                self.complain(f"a gap: {gap}")
        owed = {n: seq for n, seq in acknowledged.items() if seq >= first}
        missing = sorted(seq for n, seq in owed.items() if had.get(seq, (None, None))[1] != n)
        if missing:
            self.lost += len(missing)
            self.complain(f"{len(missing)} acknowledged ones are missing: {missing[:5]} … {missing[-1]}")
        twice = {}
        for seq, (_, n) in had.items():
            if twice.setdefault(n, seq) != seq:
                self.duplicated += 1
                self.complain(f"submission {n} was published as {twice[n]} and {seq}")
        self.events += len(owed)

    def line(self):
        return (
            f"fault {self.name}: runs={self.runs} events={self.events} lost={self.lost} "
            f"duplicated={self.duplicated} gaps={self.gaps} worst_recovery={self.worst:.1f} s"
            + (f" {self.more}" if self.more else "")
        )

    def close(self, case):
        """Says it, and fails the test if anything was wrong."""
        print(self.line(), flush=True)
        case.assertEqual(self.complaints[:10], [])
