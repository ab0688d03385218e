"""A TCP proxy that does to what goes through it what networks and middle boxes do.

It listens on a port of 127.0.0.1 and passes on to an endpoint (tcp:// or ipc://). All that is left to chance
is drawn from the seed. A test turns faults on and off from its own thread; they hold for connections that are
there and for new ones. Directions: DOWN is what the daemon sends, UP what its client sends.
"""
import asyncio
import random
import socket
import struct
import threading

DOWN, UP = "down", "up"
BOTH = (DOWN, UP)
CHUNK = 16384


def network_faults(far, cut="cut"):
    """What a network does to a connection with `far`, by name: what is set for a while, and what is done again and
    again while that lasts. Each is called with the proxy."""
    def for_a_while(*directions, **settings):
        return lambda proxy: proxy.set(*directions, **settings)

    lasting = {
        "delay 0.1 to 0.4 s": for_a_while(delay=0.1, jitter=0.3),
        "stall": for_a_while(open=False),
        "1 byte/s": for_a_while(rate=1),
        f"half-open, nothing from {far}": for_a_while(DOWN, open=False),
        f"half-open, nothing to {far}": for_a_while(UP, open=False),
    }
    repeated = {
        "RST": lambda proxy: proxy.reset(),
        cut: lambda proxy: proxy.harm("cut"),
        "flipped bit": lambda proxy: proxy.harm("flip"),
        f"flipped bit, to {far}": lambda proxy: proxy.harm("flip", UP),
        "missing bytes": lambda proxy: proxy.harm("truncate"),
    }
    return lasting, repeated


class Way:
    """What is done in one direction."""

    def __init__(self):
        self.delay = self.jitter = 0.0  # seconds
        self.rate = None  # bytes a second
        self.open = True  # False: nothing moves, the sockets stay
        self.damage = None  # to the next chunk, once: "flip", "truncate", "cut"


class ChaosProxy(threading.Thread):
    def __init__(self, target, seed):
        super().__init__(daemon=True)
        self.target, self.chance = target, random.Random(seed)
        self.ways = {DOWN: Way(), UP: Way()}
        self.connections, self.accepted, self.done = set(), 0, 0
        self.loop = asyncio.new_event_loop()
        self.listening = threading.Event()
        self.start()
        if not self.listening.wait(20):
            raise RuntimeError(f"no proxy for {target}")
        self.endpoint = f"tcp://127.0.0.1:{self.port}"

    @classmethod
    def started(cls, case, *arguments):
        proxy = cls(*arguments)
        case.addCleanup(proxy.end)
        return proxy

    # ---- what a test does; any thread ----

    def set(self, *directions, **settings):
        """delay, jitter, rate or open, in these directions (both if none is named)."""
        for direction in directions or BOTH:
            for name, value in settings.items():
                setattr(self.ways[direction], name, value)

    def harm(self, what, direction=DOWN):
        """Once, the next bytes that come: "flip" a bit, "truncate" (the end of them is left out), or "cut"
        (a part goes through, then the connection is closed)."""
        self.ways[direction].damage = what

    def reset(self):
        """Ends every connection with an RST to both sides."""
        self.call(lambda: [c.reset() for c in list(self.connections)])

    def heal(self):
        for way in self.ways.values():
            way.__init__()

    def end(self):
        self.call(self.loop.stop)
        self.join(20)

    def call(self, what):
        self.loop.call_soon_threadsafe(what)

    # ---- the loop's thread ----

    def run(self):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self.accept, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self.listening.set()
        self.loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        for connection in list(self.connections):
            connection.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def accept(self, reader, writer):
        self.accepted += 1
        connection = Connection(self, writer)
        self.connections.add(connection)
        try:
            kind, _, where = self.target.partition("://")
            if kind == "ipc":
                onward = await asyncio.open_unix_connection(where)
            else:
                host, _, port = where.rpartition(":")
                onward = await asyncio.open_connection(host, int(port))
            connection.daemon = onward[1]
            await asyncio.gather(
                connection.carry(UP, reader, onward[1]), connection.carry(DOWN, onward[0], writer)
            )
        except OSError:
            pass  # one side has gone, or nobody listens there: the other one goes too
        finally:
            connection.close()
            self.connections.discard(connection)


class Connection:
    def __init__(self, proxy, client):
        self.proxy, self.client, self.daemon = proxy, client, None

    def sides(self):
        return [side for side in (self.client, self.daemon) if side]

    def close(self):
        for side in self.sides():
            side.close()

    def reset(self):
        for side in self.sides():
            raw = side.get_extra_info("socket")
            if raw.family == socket.AF_INET:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.transport.abort()

    async def carry(self, direction, reader, writer):
        """Ends the connection when this direction ends."""
        way, chance = self.proxy.ways[direction], self.proxy.chance
        underway = asyncio.Queue(64)  # (when it is due, bytes)

        async def read():
            while data := await reader.read(CHUNK):
                due = self.proxy.loop.time() + way.delay + chance.uniform(0, way.jitter)
                await underway.put((due, data))
            await underway.put(None)

        reading = asyncio.ensure_future(read())
        try:
            while item := await self.next(underway, reading):
                due, data = item
                await asyncio.sleep(max(0, due - self.proxy.loop.time()))
                await self.pass_on(way, data, writer)
        finally:
            reading.cancel()
            self.close()

    @staticmethod
    async def next(underway, reading):
        getting = asyncio.ensure_future(underway.get())
        await asyncio.wait({getting, reading}, return_when=asyncio.FIRST_COMPLETED)
        if not getting.done():
            reading.result()  # raises what it ended with; else its last word is in the queue
        return await getting

    async def pass_on(self, way, data, writer):
        while data:
            while not way.open:
                await asyncio.sleep(0.02)
            if way.damage:
                self.proxy.done += 1
                what, way.damage = way.damage, None
                data = self.harmed(what, data, writer)
                if data is None:
                    return
            if not (rate := way.rate):
                writer.write(data)
                await writer.drain()
                return
            writer.write(data[:1])
            await writer.drain()
            data = data[1:]
            over = self.proxy.loop.time() + 1 / rate
            while way.rate and self.proxy.loop.time() < over:
                await asyncio.sleep(0.02)

    def harmed(self, what, data, writer):
        at = self.proxy.chance.randrange(len(data))
        if what == "flip":
            return data[:at] + bytes([data[at] ^ 1 << self.proxy.chance.randrange(8)]) + data[at + 1 :]
        if what == "truncate":
            return data[:at]
        writer.write(data[:at])
        raise ConnectionError("cut")
