#!/usr/bin/python3
"""Events by HTTPS POST through bus-relayd to bus-tail: who may, what is refused, certificates that
change, clients that misbehave, and kills."""
import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading

from world import ENVIRONMENT, World, free_ports, main, until

SEED = random.randrange(1 << 30)
SECRET, OTHER = "a secret of twenty-eight bytes", "another one, of twenty-nine bytes"
RULES = """
[[relay.allow]]
from = "token:build"
topics = ["org.example.dev.build.**"]
[[relay.allow]]
from = "token:other"
topics = ["org.example.dev.build.**"]
[[relay.allow]]
from = "127.0.0.0/8"
topics = ["org.example.dev.open.**", "org.example.dev.mirror.**", "org.example.dev.bus.**"]
"""
CERTIFICATE_RULES = """
[[relay.allow]]
from = "cert:host1.example.org"
topics = ["org.example.dev.host1.**"]
[[relay.allow]]
from = "cert:common"
topics = ["org.example.dev.common.**"]
"""

class RelayHttp(World):
    def setUp(self):
        super().setUp()
        self.pki("new")
        self.server_certificate("relay")

    # ---- certificates and configuration ----

    def pki(self, verb, *arguments, where="pki", names=None):
        subprocess.run(
            [os.environ["PKI"], verb, self.dir / where, *arguments], check=True,
            env={**ENVIRONMENT, **({"SAN": names} if names else {})},
        )

    def chain(self, name, where="pki"):
        """The certificate with the one it was signed by, as servers and clients show it."""
        pki = self.dir / where
        path = pki / f"{name}.chain"
        path.write_text(
            (pki / f"{name}.pem").read_text() + (pki / "trusted/certificates/intermediate.pem").read_text()
        )
        return path

    def server_certificate(self, name):
        self.pki("leaf", name, "ec", names="DNS:relay.test,IP:127.0.0.1")
        return self.chain(name)

    def http_config(self, http="", more="", listen="127.0.0.1:0", tls=True, bus="", clients=False):
        (self.dir / "build.token").write_text(SECRET + "\n")
        (self.dir / "other.token").write_text(OTHER + "\n")
        pki = self.dir / "pki"
        if tls:
            http += f'\ncertificate = "{pki}/relay.chain"\nkey = "{pki}/relay.key"'
        if clients:
            http += f'\nclient_authorities = "{pki}/trusted/authorities.pem"'
            more += CERTIFICATE_RULES
        tokens = f'build = "{self.dir}/build.token"\nother = "{self.dir}/other.token"'
        return self.relay_config(
            more=f'{RULES}{more}\n[relay.tokens]\n{tokens}\n[relay.http]\nlisten = "{listen}"\n{http}\n', bus=bus
        )

    def http_relay(self, config):
        relay = self.relay(config)
        found = until("it listens", lambda: self.said("relayd", r"submissions on (https?)://.*:(\d+)/submit"))
        self.port = int(found[2])
        return relay

    # ---- clients ----

    def context(self, name=None, where="pki"):
        context = ssl.create_default_context(cafile=self.dir / "pki/trusted/authorities.pem")
        if name:
            context.load_cert_chain(self.chain(name, where), self.dir / where / f"{name}.key")
        return context

    def connect(self, context=None):
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=30, context=context or self.context()
        )

    def request(self, connection, body, method="POST", path="/submit", **headers):
        """Status, answer, headers."""
        headers = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items() if value is not None
        }
        if isinstance(body, dict):
            body = json.dumps(body)
        connection.request(method, path, body, {k: v for k, v in headers.items() if v})
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.headers

    def post(self, body, context=None, **more):
        with contextlib.closing(self.connect(context)) as connection:
            return self.request(connection, body, **more)

    def event(self, topic="open.done", body=None, **more):
        return {"topic": f"org.example.dev.{topic}", "body": body or {"message": "hi"}, **more}

    def taken(self, *arguments, **more):
        status, answer, _ = self.post(*arguments, **more)
        self.assertEqual(status, 200, answer)
        return answer["seq"]

    def bearer(self, secret):
        return f"Bearer {secret}"

    # ---- who may, and what is the same ----

    def test_curl_posts_and_it_is_heard(self):
        self.http_relay(self.http_config())
        tail = self.tail(self.listen_config("relayd"), "--since", "start", "--topic", "org.example.dev.build.**")
        call = [
            "curl", "-sS", "--fail-with-body", "--cacert", self.dir / "pki/trusted/authorities.pem",
            "--resolve", f"relay.test:{self.port}:127.0.0.1", f"https://relay.test:{self.port}/submit",
            "-H", "Content-Type: application/json", "-H", f"Authorization: Bearer {SECRET}",
            "-H", "Idempotency-Key: job 7", "-d", json.dumps(self.event("build.done", {"submitter": "me", "é": 1.5})),
        ]
        answers = [
            json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout) for _ in range(3)
        ]
        self.assertEqual(answers[1:], answers[:1] * 2)
        self.assertRegex(answers[0]["stream"], "^[0-9a-f]{64}$")
        last = self.taken(self.event("build.last"), Authorization=self.bearer(SECRET))
        until("both are heard", lambda: len(tail.events) >= 2)
        self.assertEqual([e["seq"] for e in tail.events], [answers[0]["seq"], last])
        self.assertEqual(
            tail.events[0]["body"], {"é": 1.5, "submitter": "https:127.0.0.1 token:build"}
        )
        self.assertEqual(self.metric("relayd", "mirrorbus_relay_repeated_total"), 2)
        self.assertNotIn(SECRET, (self.dir / "relayd.log").read_text())

    def test_what_is_the_same_submission(self):
        config = self.http_config()
        relay = self.http_relay(config)
        named = {"sender": "00112233445566778899aabbccddeeff", "n": 7}
        first = self.taken(self.event(**named))
        self.assertEqual(self.taken(self.event("open.other", **named)), first)
        self.assertGreater(self.taken(self.event(**named | {"n": 8})), first)
        # Without a name each is its own.
        self.assertNotEqual(self.taken(self.event()), self.taken(self.event()))
        # A key counts where there is no name, and is each client's own.
        build = {"Idempotency_Key": "k", "Authorization": self.bearer(SECRET)}
        by_key = self.taken(self.event("build.x"), **build)
        self.assertEqual(self.taken(self.event("build.x"), **build), by_key)
        others = self.taken(self.event("build.x"), **build | {"Authorization": self.bearer(OTHER)})
        self.assertNotEqual(others, by_key)
        self.assertEqual(self.taken(self.event(**named), Idempotency_Key="k"), first)
        # The same over the other door, and over a restart.
        self.end(relay)
        (self.dir / "relayd.log").unlink()
        self.http_relay(config)
        self.assertEqual(self.taken(self.event(**named)), first)
        self.assertEqual(self.taken(self.event("build.x"), **build), by_key)

    def test_refusals_have_a_status_and_a_name(self):
        self.http_relay(self.http_config())
        event = self.event
        deep = {"message": None}
        for _ in range(20):
            deep = {"message": deep}
        cases = [
            (400, "bad_json", "{", {}),
            (400, "bad_json", event(body=deep), {}),
            (400, "wrong_type", "[]", {}),
            (400, "missing_key", {"topic": "org.example.dev.open.x"}, {}),
            (400, "missing_key", event(n=7), {}),
            (400, "bad_field", event(sender="00", n=7), {}),
            (400, "bad_field", event(sendr="00"), {}),
            (400, "bad_field", event(), {"Idempotency_Key": "k" * 256}),
            (400, "bad_topic", event("open.no spaces"), {}),
            (400, "bad_topic", {"topic": "org.elsewhere.dev.x", "body": {}}, {}),
            (401, "unknown_token", event(), {"Authorization": "Bearer " + "x" * 28}),
            (401, "unknown_token", event(), {"Authorization": "Basic " + SECRET}),
            (403, "not_allowed", event("build.x"), {}),
            (403, "not_allowed", event("mirror.tree.x.update"), {}),
            (403, "not_allowed", event("bus.publisher.start"), {"Authorization": self.bearer(SECRET)}),
            (404, "not_held", event(), {"path": "/elsewhere"}),
            (405, "unknown_verb", None, {"method": "GET"}),
            (413, "too_large", event(body={"message": "x" * 66_000}), {}),
            (413, "too_large", event(body={"message": "x" * 600_000}), {}),
            (413, "too_large", event(body={f"k{i}": 0 for i in range(1024)}), {}),
            (415, "bad_content_type", event(), {"Content_Type": "text/plain"}),
            (415, "bad_content_type", event(), {"Content_Type": ""}),
        ]
        for status, error, body, more in cases:
            with self.subTest(status=status, error=error, body=str(body)[:60], more=more):
                got, answer, headers = self.post(body, **more)
                self.assertEqual((got, answer), (status, {"error": error}))
                self.assertEqual(headers["WWW-Authenticate"], "Bearer" if status == 401 else None)
        self.taken(self.event())
        refused = 'mirrorbus_relay_refused_total{reason="unknown_token"}'
        until("it is counted", lambda: self.metric("relayd", refused) == 2)

    def test_what_has_no_room_comes_again_later(self):
        config = self.http_config(bus='publish_buffer = "1MiB"\nsignatures_per_second = 1')
        self.http_relay(config)
        large = self.event(body={"message": "x" * 60_000})
        with concurrent.futures.ThreadPoolExecutor(30) as posters:
            def refused():
                got = list(posters.map(lambda _: self.post(large), range(30)))
                self.assertLessEqual({status for status, _, _ in got}, {200, 503})
                return [(answer, headers) for status, answer, headers in got if status == 503]
            answer, headers = until("some have no room", refused)[0]
        self.assertEqual((answer, headers["Retry-After"]), ({"error": "busy"}, "1"))
        until("there is room again", lambda: self.post(self.event())[0] == 200)

    def test_nobody_without_a_rule(self):
        config = self.http_config()
        config.write_text(config.read_text().replace("127.0.0.0/8", "192.0.2.0/24"))
        self.http_relay(config)
        # Not even told what is wrong with the body; and no header makes an address of another.
        self.assertEqual(self.post("{")[:2], (403, {"error": "not_allowed"}))
        for name in ("X_Forwarded_For", "Forwarded", "X_Real_IP"):
            status, answer, _ = self.post(self.event(), **{name: "192.0.2.7"})
            self.assertEqual((status, answer), (403, {"error": "not_allowed"}))

    def test_rate(self):
        self.http_relay(self.http_config("rate = 1\nburst = 3"))
        with contextlib.closing(self.connect()) as connection:
            got = [self.request(connection, self.event()) for _ in range(10)]
        self.assertEqual([status for status, _, _ in got[:3]], [200] * 3)
        over = [(answer, headers) for status, answer, headers in got if status == 429]
        self.assertGreater(len(over), 3)
        self.assertEqual(over[0][0], {"error": "rate_limited"})
        self.assertEqual(over[0][1]["Retry-After"], "1")
        # Another client's bucket is full.
        self.taken(self.event("build.x"), Authorization=self.bearer(SECRET))
        until("some time later it may again", lambda: self.post(self.event())[0] == 200)

    # ---- certificates ----

    def test_client_certificates(self):
        self.http_relay(self.http_config(clients=True))
        tail = self.tail(self.listen_config("relayd"), "--since", "start", "--topic", "org.example.dev.host1.**")
        self.pki("leaf", "named", "ec", names="email:a@example.org,DNS:host1.example.org")
        self.pki("leaf", "common", "rsa")
        self.pki("leaf", "spoof", "ec", names="URI:urn:x,DNS:other.example.org")
        self.pki("new", where="foreign")
        self.pki("leaf", "named", "ec", where="foreign", names="DNS:host1.example.org")
        self.taken(self.event("host1.x"), self.context("named"))
        self.taken(self.event("common.x"), self.context("common"))
        for name in ("common", "spoof", None):
            status, answer, _ = self.post(self.event("host1.x"), self.context(name))
            self.assertEqual((status, answer), (403, {"error": "not_allowed"}), name)
        with self.assertRaises(OSError):
            self.post(self.event("host1.x"), self.context("named", where="foreign"))
        until("it is in the log", lambda: self.said("relayd", "TLS with 127.0.0.1 failed: .*verify"))
        self.taken(self.event("host1.y"), self.context("named"))
        until("they are heard", lambda: len(tail.events) >= 2)
        self.assertEqual(
            [e["body"]["submitter"] for e in tail.events], ["https:127.0.0.1 cert:a@example.org"] * 2
        )

    def test_a_renewed_certificate_is_taken_at_a_reload(self):
        config = self.http_config()
        relay = self.http_relay(config)

        def serial():
            with contextlib.closing(self.connect()) as connection:
                connection.connect()
                return connection.sock.getpeercert()["serialNumber"]

        def reload(word, count):
            relay.send_signal(signal.SIGHUP)
            log = self.dir / "relayd.log"
            until(word, lambda: len(re.findall(r" {2,}" + word, log.read_text())) == count)

        before = serial()
        kept = self.connect()
        self.addCleanup(kept.close)
        self.assertEqual(self.request(kept, self.event())[0], 200)
        pki = self.dir / "pki"
        key = (pki / "relay.key").read_text()
        self.pki("leaf", "relay", "ec", names="DNS:relay.test,IP:127.0.0.1")
        new_key = (pki / "relay.key").read_text()
        # The chain is still the old one: all or nothing.
        reload("not reloaded", 1)
        self.assertTrue(self.said("relayd", r"relayd.toml:\d+: \[relay.http\] key: .*relay.key"))
        self.assertEqual(serial(), before)
        (pki / "relay.key").write_text(key)
        config.write_text(config.read_text().replace('listen = "127.0.0.1:0"\n\ncert', 'listen = "127.0.0.1:1"\n\ncert'))
        reload("not reloaded", 2)
        self.assertTrue(self.said("relayd", r"\[relay.http\] listen.* cannot change while"))
        config.write_text(config.read_text().replace("127.0.0.1:1\"\n\ncert", "127.0.0.1:0\"\n\ncert"))
        (pki / "relay.key").write_text(new_key)
        self.chain("relay")
        reload("reloaded", 1)
        until("the new one is shown", lambda: serial() != before)
        # Whoever was connected still is.
        self.assertEqual(self.request(kept, self.event())[0], 200)

    def test_what_a_configuration_must_have(self):
        def check(replace, by, said, **settings):
            config = self.http_config(**settings)
            text = config.read_text()
            self.assertIn(replace, text)
            config.write_text(text.replace(replace, by))
            done = subprocess.run(
                [self.programs["bus-relayd"], "--config", config, "--check-config"],
                capture_output=True, text=True, env=ENVIRONMENT, check=False,
            )
            self.assertEqual(done.returncode, 0 if said is None else 1, done.stderr)
            if said:
                self.assertRegex(done.stderr, r"relayd\.toml:\d+: \[+relay\.(http|allow)\]+ " + said)

        listen = '[relay.http]\nlisten = "127.0.0.1:0"'
        for public in ("0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0"):
            elsewhere = f'[relay.http]\nlisten = "{public}"'
            check(listen, elsewhere, "listen: .* needs certificate and key", tls=False)
            check(listen, elsewhere, None)
        check(listen, '[relay.http]\nlisten = "[::1]:0"', None, tls=False)
        check(f'submit = ["ipc://{self.dir}/relayd.submit"]', "", None)
        check("relay.chain", "nothing", "certificate: .*nothing cannot be read")
        check("relay.chain", "relay.key", "certificate: .*relay.key cannot be read")
        self.pki("leaf", "other", "ec")
        check("relay.key", "other.key", "key: .*other.key cannot be read as the private key.* of .*relay.chain")
        subprocess.run(
            ["openssl", "pkey", "-in", self.dir / "pki/other.key", "-aes128", "-passout", "pass:word",
             "-out", self.dir / "pki/locked.key"], check=True, capture_output=True,
        )
        check("relay.key", "locked.key", "key: .* without a passphrase")
        check("authorities.pem", "nothing.pem", "client_authorities: .*nothing.pem", clients=True)
        check("client_authorities", "#", "from: .*has no client_authorities", clients=True)
        check("certificate =", "#", "key: needs certificate")
        check(f'\nkey = "{self.dir}/pki', "\n#", "certificate: needs key")
        check(listen, listen + "\nrate = 0", "rate: is 0")
        check(listen, listen + "\nratte = 1", "ratte: unknown key")

    # ---- clients that misbehave ----

    def raw(self):
        return socket.create_connection(("127.0.0.1", self.port), 30)

    def test_hostile_clients_do_not_hurt_a_good_one(self):
        print("seed", SEED, flush=True)
        chance = random.Random(SEED)
        self.http_relay(self.http_config('connections_per_peer = 200\nidle_timeout = "2s"\nrate = 10000'))
        with contextlib.ExitStack() as held, contextlib.closing(self.connect()) as good:
            hello = ssl.create_default_context()
            hello.check_hostname, hello.verify_mode = False, ssl.CERT_NONE
            for i in range(60):
                client = held.enter_context(self.raw())
                if i % 3 == 0:  # garbage
                    with contextlib.suppress(OSError):
                        client.sendall(chance.randbytes(10_000))
                elif i % 3 == 1:  # the first bytes of a handshake, and no more
                    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                    half = hello.wrap_bio(incoming, outgoing)
                    with contextlib.suppress(ssl.SSLWantReadError):
                        half.do_handshake()
                    client.sendall(outgoing.read()[: chance.randrange(1, 400)])
                else:  # a handshake, then garbage in place of a request
                    secure = held.enter_context(hello.wrap_socket(client))
                    with contextlib.suppress(OSError):
                        secure.sendall(chance.randbytes(10_000))
                self.assertEqual(self.request(good, self.event())[0], 200)
            # Those that said nothing more are gone in time; the good one is still there.
            connections = 'mirrorbus_http_connections{listener="submit"}'

            def only_good():
                self.assertEqual(self.request(good, self.event())[0], 200)
                return self.metric("relayd", connections) == 1
            until("they are gone", only_good, pause=0.2)
        self.assertGreater(self.metric("relayd", 'mirrorbus_http_refused_total{listener="submit"}'), 20)

    def test_plain_http_is_not_spoken_where_tls_is(self):
        self.http_relay(self.http_config())
        for most in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = self.context()
            context.maximum_version = most
            self.taken(self.event(), context)
        with self.raw() as plain:
            plain.sendall(b"POST /submit HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertNotIn(b"HTTP/1.1 ", plain.recv(1000))

    def test_behind_a_proxy_it_is_plain(self):
        self.http_relay(self.http_config(tls=False))
        tail = self.tail(self.listen_config("relayd"), "--since", "start", "--topic", "org.example.dev.build.**")
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as plain:
            got = self.request(plain, self.event("build.x"), Authorization=self.bearer(SECRET))
        self.assertEqual(got[0], 200)
        until("it is heard", lambda: tail.events)
        self.assertEqual(tail.events[0]["body"]["submitter"], "http:127.0.0.1 token:build")

    # ---- kills ----

    def test_each_200_was_durable(self):
        print("seed", SEED, flush=True)
        chance = random.Random(SEED)
        (port,) = free_ports(1)
        config = self.http_config("rate = 100000", listen=f"127.0.0.1:{port}")
        self.port = port
        relay = self.relay(config)
        stop = threading.Event()
        acknowledged = {}

        def sender(number):
            name, n, connection = f"{number:032x}", 0, None
            while not stop.is_set():
                n += 1
                while not stop.is_set():
                    try:
                        connection = connection or self.connect()
                        status, answer, _ = self.request(connection, self.event("open.n", sender=name, n=n))
                        if status == 200:
                            acknowledged[name, n] = answer["seq"]
                            break
                    except (OSError, http.client.HTTPException, ValueError):
                        if connection:
                            connection.close()
                        connection = None
            if connection:
                connection.close()

        with concurrent.futures.ThreadPoolExecutor(4) as senders:
            running = [senders.submit(sender, number) for number in range(4)]
            try:
                for _ in range(4):
                    more = len(acknowledged) + chance.randrange(50, 400)
                    until("some are acknowledged", lambda m=more: len(acknowledged) >= m)
                    relay.send_signal(signal.SIGKILL)
                    relay.wait()
                    relay = self.relay(config)
            finally:
                stop.set()
        for done in running:
            done.result()
        tail = self.tail(self.listen_config("relayd"), "--since", "start", "--topic", "org.example.dev.open.**")
        until("all are heard", lambda: len(tail.events) >= len(acknowledged))
        # One event for each, none of them twice, and repeated now it is still the same.
        self.assertEqual(len(set(acknowledged.values())), len(acknowledged))
        self.assertEqual(set(acknowledged.values()) - {e["seq"] for e in tail.events}, set())
        for (name, n), seq in chance.sample(sorted(acknowledged.items()), 20):
            until("it listens again", lambda: self.said("relayd", "submissions on"))
            self.assertEqual(self.taken(self.event("open.n", sender=name, n=n)), seq)
        print(f"{len(acknowledged)} acknowledged over 4 kills", flush=True)

if __name__ == "__main__":
    main(sys.argv)
