#!/usr/bin/python3
"""A serve socket on another host that names sources, and a server there that redirects: hostile_namer.py SERVE HTTP
TO NUMBER URL...: answers every `have` with the URLs, as places that have version NUMBER, or without any, that one is to
ask again later; what is asked of HTTP is sent to TO. Says "ready", and "answered" when it is asked again, for then its
first answer has come; ends with its standard input."""
import http.server
import sys
import threading

import msgpack
import zmq


def redirecting(to):
    class Redirects(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", to + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

    return Redirects


def main(serve, listen, to, number, *urls):
    host, port = listen.rsplit(":", 1)
    server = http.server.ThreadingHTTPServer((host, int(port)), redirecting(to))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    router = zmq.Context.instance().socket(zmq.ROUTER)
    router.bind(serve)
    print("ready", flush=True)
    poller = zmq.Poller()
    poller.register(router, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    times_asked = 0
    while sys.stdin.fileno() not in (ready := dict(poller.poll())):
        if router in ready:
            who, request = router.recv_multipart()[:2]
            asked = msgpack.unpackb(request)
            answer = {"v": 1, "id": asked["id"], "status": "not_held"}
            if asked["verb"] == "have":
                answer |= {"status": "ok", "number": int(number), "content": "", "pull": "others" if urls else "later",
                           "sources": list(urls), "again_ms": 1000}
                times_asked += 1
                if times_asked == 2:
                    print("answered", flush=True)
            router.send_multipart([who, msgpack.packb(answer)])
    zmq.Context.instance().destroy(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
