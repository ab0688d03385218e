"""Serve sockets, from either side: one question to a daemon's, and one of our own that answers."""
import threading

import msgpack
import zmq


def ask(test, endpoint, verb, *, seconds=10, **fields):
    """The answer, which comes in so long: its map, then its parts."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        socket.send(msgpack.packb({"v": 1, "id": 1, "verb": verb, **fields}))
        test.assertTrue(socket.poll(1000 * seconds), f"{endpoint} answers {verb}")
        said, *parts = socket.recv_multipart()
        return [msgpack.unpackb(said), *parts]


def answering(test, answer):
    """A serve socket until the test is over; its endpoint. answer(question) gives the map, less version and id, and
    the parts."""
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    endpoint = f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"
    over = threading.Event()

    def serve():
        while not over.is_set():
            if not socket.poll(50):
                continue
            who, request = socket.recv_multipart()[:2]
            question = msgpack.unpackb(request)
            said, *parts = answer(question)
            socket.send_multipart([who, msgpack.packb({"v": 1, "id": question["id"], **said}), *parts])
        socket.close()
        context.term()

    thread = threading.Thread(target=serve)
    thread.start()
    test.addCleanup(thread.join)
    test.addCleanup(over.set)
    return endpoint
