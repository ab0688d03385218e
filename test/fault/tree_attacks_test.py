#!/usr/bin/python3
"""The attacks of an update network, in the words of The Update Framework, on trees: against a real mirror, by an origin
written from proto/*.md that says whatever an attacker wants said. After each the real origin's next version is
applied. docs/security.md has the table.
"""
import os
import sys
import unittest

import msgpack

from hostile_publisher import sha256
from hostile_tree import ContentServer, Origin, Tree, on_disk, record
from victim import Victim, until
from world import World, main

PUBLISHER = "origin@example.org"
FAR = 1 << 62
STALE_S = 3


class TreeAttacks(unittest.TestCase):
    def setUp(self):
        self.server = ContentServer()
        self.addCleanup(self.server.close)
        rule = "org.example.dev.**"
        self.victim = Victim(
            World.programs["bus-mirrord"], None, origin=PUBLISHER, tree=f'stale_after = "{STALE_S}s"',
            rules={"good": (rule, True), "next": (rule, True), "stranger": ("", True)},
        )
        self.addCleanup(self.victim.close)
        self.place = self.victim.dir / "place/tree"
        self.bus = self.victim.buses[0]
        self.stream = self.new_stream("good")
        self.origin = Origin(self.stream, self.server)
        self.victim.join(self.stream)
        for _ in range(3):
            self.good()
        self.before = self.victim.refused()

    def new_stream(self, key):
        return self.victim.stream(key, PUBLISHER, self.bus, content=self.server.url)

    def good(self):
        """The origin publishes, and the mirror has it."""
        self.server.instead.clear()
        self.tree = Tree({b"a": b"first", b"good": str(self.origin.number + 1).encode()})
        number = self.origin.publish(self.tree)
        self.is_current(number)

    def is_current(self, number):
        def shown():
            self.origin.stream.bus.send(self.origin.stream.head())
            status = self.victim.status()
            return (status["version"], status["state"]) == (number, "current")

        until(lambda: self.victim.log(), lambda: self.victim.status()["head_version"] == number)
        self.victim.ask("sync", tree="t")  # else it waits before it tries again
        until(lambda: f"{self.victim.status()}\n{self.victim.log()}", shown, pause=0.1)
        self.assertEqual(on_disk(self.place), self.tree.content)

    def grown(self, why):
        return self.victim.refused().get(why, 0) > self.before.get(why, 0)

    def stays(self, number):
        self.assertEqual(self.victim.status()["version"], number)
        self.assertEqual(on_disk(self.place), self.tree.content)
        self.victim.is_fine()

    def refused(self, why):
        until(lambda: f"wanted {why}: {self.victim.refused()} {self.victim.log()}", lambda: self.grown(why))

    def test_arbitrary_version(self):
        """Of a key that no rule names; under the origin's name; and one whose seal is not the origin's."""
        number, evil = self.origin.number, Tree({b"evil": b"evil"})
        stranger = self.new_stream("stranger")
        stranger.announce()
        Origin(stranger, self.server).publish(evil)
        self.refused("policy_denied")
        forged = self.new_stream("good")  # the stream's name, another session key, under no credential
        forged.credential, forged.epoch = self.stream.credential, self.stream.epoch
        forged.number, forged.seq, forged.previous = self.stream.number, self.stream.seq, self.stream.previous
        self.bus.streams[self.stream.id] = self.stream
        liar = Origin(forged, self.server)
        liar.id, liar.number, liar.parent = self.origin.id, self.origin.number, self.origin.parent
        liar.publish(evil)
        self.refused("bad_signature")
        self.stays(number)
        self.good()

    def test_rollback(self):
        """Old versions again: as they were sent; sealed anew; to a mirror that has just started."""
        number = self.origin.number
        first = self.stream.batches[0][2]
        duplicates = self.victim.metrics()["mirrorbus_duplicates_total"]
        self.bus.send(*first.frames)
        until("it is known to be a duplicate",
              lambda: self.victim.metrics()["mirrorbus_duplicates_total"] > duplicates)
        self.sealed_anew(1)
        self.stays(number)
        self.victim.restart()
        self.victim.join(self.stream)
        self.stays(number)
        self.sealed_anew(2)
        self.stays(number)
        self.good()

    def sealed_anew(self, number):
        """By who has the session key; the body is what the origin once said."""
        received = self.victim.metrics()["mirrorbus_events_received_total"]
        _, event = self.stream.batches[number - 1][2].items[0]
        body = event[event.index(msgpack.packb("tree")) - 1 :]
        self.assertEqual(msgpack.unpackb(body)["number"], number)
        topic = self.stream.batches[0][2].items[0][0]
        self.bus.send(*self.stream.batch([(topic, body)]).frames)
        until("it was heard",
              lambda: self.victim.metrics()["mirrorbus_events_received_total"] > received)

    def test_freeze(self):
        """The origin's news are withheld, and its old heads shown instead."""
        number, old = self.origin.number, self.stream.head()
        self.bus.send(old, self.stream.head())
        self.state("stale", lambda: None)
        self.bus.send(old)
        self.refused("stale_head")
        self.assertEqual(self.victim.status()["state"], "stale")
        self.stays(number)
        self.state("current", lambda: self.bus.send(self.stream.head()))
        self.good()

    def state(self, wanted, meanwhile):
        def shown():
            meanwhile()
            return self.victim.status()["state"] == wanted

        until(lambda: f"{wanted}: {self.victim.status()}", shown, STALE_S + 20, 0.1)

    def test_fast_forward(self):
        """Whoever has the session key says a version of a number far ahead, that no later one would exceed. It is
        taken; but the origin's next is noticed to be another history, and an operator's word takes it."""
        number, parent, tree = self.origin.number, self.origin.parent, self.tree
        self.origin.number = FAR - 1
        self.tree = Tree({b"evil": b"evil"})
        self.origin.publish(self.tree)
        self.is_current(FAR)
        self.origin.number, self.origin.parent, evil = number, parent, self.tree
        self.tree = Tree(tree.content | {b"more": b"more"})
        right = self.origin.publish(self.tree)
        self.refused("fork")
        status = self.victim.status()
        self.assertEqual((status["state"], status["version"]), ("fork", FAR))
        self.assertEqual(on_disk(self.place), evil.content)
        self.victim.ask("accept", tree="t")
        self.is_current(right)
        self.good()

    def test_mix_and_match(self):
        """A content server answers for the new version with nodes and contents of the one before: each signed, and
        not together."""
        number, old = self.origin.number, self.tree

        def nodes(request, _):
            request.say(200, record(new.hash, old.root))

        new = Tree(old.content | {b"good": b"news"})
        self.server.instead["nodes"] = nodes
        self.origin.publish(new)
        self.refused("bad_hash")
        self.stays(number)
        # The right nodes, and the old content under the new one's hash.
        self.server.instead = {
            "objects": lambda request, _: request.say(200, record(sha256(b"news"), old.content[b"good"]))
        }
        self.before = self.victim.refused()
        self.refused("bad_hash")
        self.assertNotEqual(on_disk(self.place).get(b"good"), b"news")
        self.assertIn(on_disk(self.place).get(b"good"), (None, old.content[b"good"]))
        self.good()

    def test_endless_data(self):
        """More than was signed for, and more nodes than there are."""
        number = self.origin.number
        for folder in ("nodes", "objects"):
            self.before = self.victim.refused()
            self.server.instead[folder] = lambda request, right: request.pour(right, right)
            self.origin.publish(Tree({b"a": b"first", b"good": os.urandom(20)}))
            until(lambda: str(self.victim.refused()), lambda: self.grown("bad_hash") or self.grown("too_large"))
            self.stays(number)
            self.server.instead.clear()
        self.good()

    def test_key_compromise_and_revocation(self):
        """Who has the origin's key says what he likes until it is revoked; then nothing. The origin goes on under a
        new key when an operator says that it is the origin."""
        self.tree = Tree({b"evil": b"evil"})
        self.is_current(self.origin.publish(self.tree))
        number = self.origin.number
        self.stream.key.revoke_in(self.victim.dir / "trust")

        def said():
            self.origin.publish(Tree({b"evil": os.urandom(8)}))
            return self.grown("key_revoked")

        until(lambda: f"{self.victim.refused()} {self.victim.log()}", said, 30, 0.3)
        taken = self.victim.status()["version"]  # what came before the keyring was read again
        held = on_disk(self.place)
        self.assertGreaterEqual(taken, number)
        self.origin.publish(Tree({b"evil": b"more of it"}))
        other = self.new_stream("next")
        origin = Origin(other, self.server)
        origin.id, origin.number = self.origin.id, self.origin.number
        self.origin, self.tree = origin, Tree({b"a": b"first", b"good": b"again"})

        def heard():
            other.announce()
            self.bus.send(other.head())
            origin.publish(self.tree)
            return self.grown("foreign_tree")

        until(lambda: f"{self.victim.refused()} {self.victim.log()}", heard, 30, 0.3)
        right = origin.publish(self.tree)
        until("the newest is offered", lambda: f"version {right} " in self.victim.status()["last_error"])
        self.assertEqual((self.victim.status()["version"], on_disk(self.place)), (taken, held))
        self.victim.ask("accept", tree="t")
        self.is_current(right)
        self.good()


if __name__ == "__main__":
    main(sys.argv)
