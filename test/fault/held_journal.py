"""What a relay's journal holds, read over its serve socket (proto/serve.md, verbs `info` and `replay`)."""
import contextlib
import hashlib
import pathlib
import sys
import time

import msgpack
import zmq

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "interop"))
from subscriber import decode_event, decode_row, leaf, root_of  # noqa: E402
from load import TOPIC  # noqa: E402


class HeldJournal:
    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.asked = 0

    def ask(self, socket, verb, **arguments):
        """The answer's fields and parts. Asked again each second for 20 s."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            self.asked += 1
            socket.send(msgpack.packb({"v": 1, "id": self.asked, "verb": verb, **arguments}))
            while socket.poll(1000):
                head, *parts = socket.recv_multipart()
                answer = msgpack.unpackb(head)
                if answer["id"] == self.asked and answer["status"] == "ok":
                    return answer, parts
                if answer["id"] == self.asked:
                    break
        raise AssertionError(f"{verb} {arguments} is not answered")

    def epoch(self):
        """Of the newest batch."""
        with self.connected() as socket:
            return self.ask(socket, "info")[0]["epoch"]

    @contextlib.contextmanager
    def connected(self):
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(self.endpoint)
            yield socket

    def read(self, first=1):
        """({first seq: (row's hash, epoch, number)}, {seq: n of the Submitter's event}) from the row
        that holds `first` on. Each row must be what its header says."""
        rows, events = {}, {}
        with self.connected() as socket:
            info, _ = self.ask(socket, "info")
            at = max(first, info["oldest"], 1)
            while at <= info["last"]:
                answer, parts = self.ask(
                    socket, "replay", stream=info["stream"], to=info["last"], prefix="", bytes=1 << 20,
                    **{"from": at},
                )
                for part in parts:
                    self.take(part, rows, events)
                at = answer["through"] + 1
        return rows, events

    @staticmethod
    def take(row, rows, events):
        _, header, items = decode_row(row)
        assert root_of([leaf(*item) for item in items]) == header.root, "a row is not what was signed"
        rows[header.first_seq] = hashlib.sha256(row).hexdigest(), header.epoch, header.number
        for topic, data in items:
            event = decode_event(data)
            n = msgpack.unpackb(event.body).get("n") if topic.decode() == TOPIC else None
            assert event.seq not in events, f"{event.seq} is served twice"
            events[event.seq] = n
