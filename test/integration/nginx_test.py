#!/usr/bin/python3
"""nginx as a source: config/nginx/mirrorbus-cache.conf, with a certificate of a private authority."""
import os
import pathlib
import subprocess
import sys

from mirroring import RandomTree
from sharing_test import Sharing
from world import free_ports, main, until

SAMPLE = pathlib.Path(__file__).parents[2] / "config/nginx/mirrorbus-cache.conf"
MAIN = """
daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log {dir}/nginx-error.log;
events {{}}
http {{
    access_log {dir}/nginx-access.log;
    client_body_temp_path {dir}/nginx-body;
    proxy_temp_path {dir}/nginx-proxy;
    fastcgi_temp_path {dir}/nginx-fastcgi;
    uwsgi_temp_path {dir}/nginx-uwsgi;
    scgi_temp_path {dir}/nginx-scgi;
    {sample}
}}
"""


class Nginx(Sharing):
    def certificate(self):
        pki = os.environ["PKI"]
        subprocess.run([pki, "new", self.dir / "ca"], check=True, capture_output=True)
        subprocess.run([pki, "leaf", self.dir / "ca", "cache1", "ec"], check=True, capture_output=True,
                       env={**os.environ, "SAN": "IP:127.0.0.1"})
        ca = self.dir / "ca"
        found = {name: next(ca.rglob(name)) for name in ("cache1.pem", "cache1.key")}
        chain = self.dir / "chain.pem"
        chain.write_text(found["cache1.pem"].read_text() +
                         "".join(p.read_text() for p in (ca / "trusted/certificates").glob("*.pem")))
        return chain, found["cache1.key"], ca / "trusted/authorities.pem"

    def nginx(self, port, content, chain, key):
        sample = SAMPLE.read_text()
        for old, new in {
            "/var/cache/nginx/mirrorbus": f"{self.dir}/cache",
            "origin1.example.org:9944": f"127.0.0.1:{content}",
            "443 ssl": f"127.0.0.1:{port} ssl",
            "/etc/nginx/tls/cache1.pem": str(chain),
            "/etc/nginx/tls/cache1.key": str(key),
        }.items():
            self.assertEqual(sample.count(old), 1, old)
            sample = sample.replace(old, new)
        config = self.dir / "nginx.conf"
        config.write_text(MAIN.format(dir=self.dir, sample=sample))
        with open(self.dir / "nginx.log", "a", encoding="utf-8") as out:
            process = subprocess.Popen(["/usr/sbin/nginx", "-c", config, "-e", self.dir / "nginx-error.log"],
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.addCleanup(self.end, process)
        until("nginx answers", lambda: process.poll() is None and self.answers(port), 20)

    def answers(self, port):
        done = subprocess.run(["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", f"https://127.0.0.1:{port}/"],
                              capture_output=True, text=True, check=False)
        return done.stdout == "404"

    def test_a_cache_with_a_private_authority(self):
        dead, content, port = free_ports(3)
        chain, key, authorities = self.certificate()
        tree = RandomTree(self.dir / "a/tree", 200, 11)
        (self.dir / "a/tree/large").write_bytes(os.urandom(9_000_000))  # by range
        for number in range(4):
            (self.dir / f"a/tree/random{number}").write_bytes(os.urandom(30_000))  # a pack of its own
        self.up("origin", self.origin(bus=f'advertise_content = "http://127.0.0.1:{dead}"', content=content))
        version = self.publish()
        self.nginx(port, content, chain, key)

        def mirror(name, how):
            config = self.mirror(name, ["origin"], more=f'source = ["https://127.0.0.1:{port}"]')
            config.write_text(config.read_text().replace("[content]", f"[transfer]\n{how}\n[content]"))
            self.up(name, config)

        def sent():
            return self.metric("origin", "mirrorbus_content_sent_bytes_total")

        mirror("m1", f'authorities = "{authorities}"')
        self.reaches("m1", version)
        self.assertSame("m1", "from a cache")
        once = sent()
        self.assertGreater(once, 9_000_000)
        mirror("m2", f'authorities = "{authorities}"')
        self.reaches("m2", version)
        self.assertSame("m2", "from the same cache")
        self.assertEqual(sent(), once)  # all of it had been there

        tree.change()
        version = self.publish()
        for name in ("m1", "m2"):
            self.reaches(name, version)
            self.assertSame(name, "after a change")

        mirror("m3", "")  # the system's authorities do not know this one
        until("it is not believed", lambda: self.status("m3")["state"] == "failed")
        self.assertEqual(self.status("m3")["version"], 0)
        self.assertIn("certificate", self.status("m3")["last_error"].lower())


if __name__ == "__main__":
    main(sys.argv)
