"""Stands between a publisher and a subscriber, and passes on what a test wants passed on."""
import threading

import zmq

class Proxy(threading.Thread):
    """`change` gets each frame and gives what to send, or nothing to keep it back."""

    def __init__(self, source, listen, change):
        super().__init__(daemon=True)
        self.source, self.listen, self.change = source, listen, change
        self.stopping, self.bound = threading.Event(), threading.Event()
        self.start()
        if not self.bound.wait(20):
            raise RuntimeError(f"nothing listens on {listen}")

    def run(self):
        with zmq.Context() as context, context.socket(zmq.XPUB) as out, context.socket(zmq.XSUB) as into:
            out.linger = into.linger = 0
            out.bind(self.listen)
            self.bound.set()
            # Only when the subscriber is there: the publisher greets each subscription once.
            connected = False
            while not self.stopping.is_set():
                if out.poll(20):
                    subscription = out.recv()
                    if not connected:
                        into.connect(self.source)
                        connected = True
                    into.send(subscription)
                while connected and into.poll(0):
                    if (frame := self.change(into.recv())) is not None:
                        out.send(frame)

    def end(self):
        self.stopping.set()
        self.join()
