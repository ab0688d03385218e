#!/usr/bin/python3
"""Daemons whose keys are X.509: an authority made with openssl's tools, revocation and lists that run
out while events flow."""
import os
import pathlib
import subprocess
import sys
import time

from world import World, main, until

class X509(World):
    def setUp(self):
        super().setUp()
        self.pki("new")
        self.pki("leaf", "relay", "ec")
        self.trusted = self.dir / "pki/trusted"
        public = subprocess.run(
            f"openssl x509 -in {self.dir}/pki/relay.pem -pubkey -noout"
            " | openssl pkey -pubin -outform DER | openssl dgst -sha256 -r",
            shell=True, check=True, capture_output=True, text=True,
        ).stdout
        self.key_name = "x509:" + public.split()[0]
        relay = self.relay_config()
        text = relay.read_text()
        signing = text[text.index("[signing]"):text.index("[http]")]
        relay.write_text(text.replace(signing, f"""[signing]
scheme = "x509"
key = "{self.dir}/pki/relay.key"
certificate = "{self.dir}/pki/relay.pem"
{self.trust()}"""))
        self.relayd = relay
        self.relay(relay)

    def pki(self, verb, *arguments):
        subprocess.run([os.environ["PKI"], verb, self.dir / "pki", *arguments], check=True)

    def trust(self, more=""):
        return f"""[trust]
authorities = "{self.trusted}/authorities.pem"
certificates = "{self.trusted}/certificates"
{more}
[[trust.allow]]
topics = ["org.example.dev.**"]
keys = ["{self.key_name}"]
"""

    def listen(self):
        config = self.listen_config("relayd")
        text = config.read_text()
        config.write_text(text[:text.index("[trust]")] + self.trust())
        return config

    def good_tail(self):
        """A tail that has been given an event."""
        tail = self.tail(self.listen(), "--topic", "org.example.dev.shell.**")

        def heard():
            self.publish(self.relayd, 1)
            return tail.events
        until("the first event", heard, pause=0.2)
        return tail

    def test_events_are_verified(self):
        tail = self.good_tail()
        self.assertTrue(tail.events[0]["verified"])
        self.assertEqual(tail.events[0]["signer"], self.key_name)
        wanted = self.publish(self.relayd, 100)
        until("all events", lambda: len(tail.events) >= 100)
        self.assertOnceInOrder(tail.seqs())
        self.assertEqual([seq for _, seq in tail.seqs()][-100:], wanted)

    def test_certificate_revoked_while_events_flow(self):
        tail = self.good_tail()
        self.pki("revoke", "relay")
        revoked = time.monotonic()
        until("it is refused", lambda: self.said("tail", "key_revoked"))
        took = time.monotonic() - revoked
        print(f"refused {took:.2f} s after the list lay there", flush=True)
        self.assertLess(took, 10)
        before = len(tail.events)
        self.publish(self.relayd, 10)
        until("they are refused", lambda: self.said("tail", "refused a frame: key_revoked"))
        self.assertEqual(len(tail.events), before)
        self.assertEqual(tail.gaps, [])

    def test_list_that_runs_out_and_comes_anew(self):
        tail = self.good_tail()
        soon = time.gmtime(time.time() + 4)
        self.pki("crl", "intermediate", "-crl_lastupdate", "20200101000000Z",
                 "-crl_nextupdate", time.strftime("%Y%m%d%H%M%SZ", soon))
        until("nothing is believed any more", lambda: self.said("tail", "revocation_unknown"))
        before = len(tail.events)
        away = self.publish(self.relayd, 50)
        until("they are refused", lambda: self.said("tail", "refused a frame: revocation_unknown"))
        self.assertEqual(len(tail.events), before)
        self.pki("crl", "intermediate")
        until("what came meanwhile", lambda: len(tail.events) >= before + 50)
        self.assertOnceInOrder(tail.seqs())
        self.assertEqual([seq for _, seq in tail.seqs()][-50:], away)
        self.assertEqual(tail.gaps, [])

    def test_certificate_of_another_key_is_refused_at_the_start(self):
        self.pki("leaf", "other", "rsa")
        text = self.relayd.read_text().replace("/relay.pem", "/other.pem")
        wrong = pathlib.Path(f"{self.dir}/wrong.toml")
        wrong.write_text(text.replace("/relayd\"", "/wrong\"").replace("relayd.", "wrong."))
        process = self.start("bus-relayd", wrong, "wrong")
        self.assertEqual(process.wait(30), 1)
        self.assertTrue(self.said("wrong", "relay.key is not the key of .*other.pem"))

if __name__ == "__main__":
    sys.exit(main(sys.argv))
