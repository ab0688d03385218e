#!/usr/bin/python3
"""Hostile trees, packs and content servers against a real mirror: hostile_tree_test.py BUS_MIRRORD

The updates are well signed by the trusted origin; what they say, or what the server sends, is wrong. Each
case: refused under its name, counted, nothing committed, nothing touched outside the tree; and then a good
version is applied.
"""
import os
import struct
import sys
import unittest

from hostile_publisher import GIB, sha256, varint
from hostile_tree import (
    DIRECTORY, FILE, LINK, ContentServer, Origin, Pack, Raw, Tree, entry, on_disk, record, zstd,
)
from victim import Victim, until

MIRRORD = sys.argv[1]
EMPTY = varint(0) + sha256(b"")  # a file


def file(name, **other):
    return entry(name, FILE, EMPTY, **other)


class HostileTree(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = ContentServer()
        cls.addClassCleanup(cls.server.close)
        cls.victim = Victim(
            MIRRORD, None, origin="origin@example.org",
            rules={"good": ("org.example.dev.**", True), "other": ("org.example.dev.**", True)},
        )
        cls.addClassCleanup(cls.victim.close)
        place = cls.victim.dir / "place"
        cls.tree_path, cls.outside = place / "tree", place / "outside"
        cls.outside.mkdir()
        (cls.outside / "precious").write_bytes(b"not to be touched")
        os.utime(cls.outside, (1, 1))
        stream = cls.victim.stream("good", "origin@example.org", cls.victim.buses[0], content=cls.server.url)
        cls.victim.join(stream)
        cls.origin = Origin(stream, cls.server)
        cls.good()

    @classmethod
    def good(cls):
        """A version that holds something new is published, and is there."""
        cls.server.instead.clear()
        cls.tree = Tree({b"a": b"first", b"good": str(cls.origin.number + 1).encode(), b"z": b"last"})
        number = cls.origin.publish(cls.tree)
        cls.is_current(number)

    @classmethod
    def is_current(cls, number):
        until(cls.victim.log, lambda: cls.victim.status()["head_version"] == number)
        cls.victim.ask("sync", tree="t")  # else it waits before it tries again
        until(lambda: f"{cls.victim.status()}\n{cls.victim.log()}",
              lambda: (cls.victim.status()["version"], cls.victim.status()["state"]) == (number, "current"))

    def setUp(self):
        self.before = self.victim.refused()
        self.version = self.victim.status()["version"]
        self.expected = self.tree.content

    def tearDown(self):
        self.good()
        self.assertEqual(on_disk(self.tree_path), self.tree.content)
        self.nothing_outside()
        self.victim.is_fine()

    def nothing_outside(self):
        self.assertEqual(on_disk(self.outside), {b"precious": b"not to be touched"})
        self.assertEqual(os.stat(self.outside).st_mtime, 1)
        self.assertEqual(set(os.listdir(self.outside.parent)), {"outside", "tree"})

    def grown(self):
        now = self.victim.refused()
        return {why for why in now if now[why] > self.before.get(why, 0)}

    def expect(self, why, state, *, others=(), version=None):
        """Refused by this name, in the status and in the metrics; nothing was taken over."""

        def shown():
            status = self.victim.status()
            return status["state"] == state and why in status["last_error"]

        until(lambda: f"wanted {state}, {why}: {self.victim.status()}", shown)
        self.assertIn(why, self.grown())
        self.assertLessEqual(self.grown(), {why, *others})
        self.assertEqual(self.victim.status()["version"], version or self.version)
        self.assertEqual(on_disk(self.tree_path), self.expected)
        self.nothing_outside()

    # ---- legal, though it does not look so ----

    def test_legal_names_are_applied(self):
        tree = Tree({b"n" * 255: b"long", b"\xff\xfe\x80": b"not UTF-8", b"-rf *\n": b"odd", b"...": b"dots"})
        self.is_current(self.origin.publish(tree))
        self.assertEqual(on_disk(self.tree_path), tree.content)

    def test_links_out_of_the_tree_are_made_and_not_followed(self):
        first = Tree({b"d": str(self.outside), b"up": "../outside", b"root": "/"})
        self.is_current(self.origin.publish(first))
        self.assertEqual(on_disk(self.tree_path), first.content)
        # What was a link is now a directory of the same name: it must not be gone through.
        then = Tree({b"d": {b"precious": b"mine", b"new": b"file"}, b"up": {b"new": b"file"}, b"root": "/"})
        self.is_current(self.origin.publish(then))
        self.assertEqual(on_disk(self.tree_path), then.content)
        self.nothing_outside()
        back = Tree({b"d": str(self.outside), b"up": {b"d": "../../outside"}})
        self.is_current(self.origin.publish(back))
        self.assertEqual(on_disk(self.tree_path), back.content)

    # ---- what updates say ----

    def refused_update(self, why, **fields):
        self.origin.publish(self.tree, fields=fields)
        until(lambda: str(self.victim.status()), lambda: why in self.victim.status()["last_error"])
        self.expect(why, "current")

    def test_path_of_a_change_that_leads_out(self):
        self.refused_update("bad_name", changes=[["add", "../outside/x"]], changes_total=1)

    def test_name_of_256_bytes_in_a_change(self):
        self.refused_update("bad_name", changes=[["add", "n" * 256]], changes_total=1)

    def test_changes_without_end(self):
        self.refused_update("bad_count", changes=[["add", "a"]] * 257, changes_total=257)

    def test_index_larger_than_its_pack(self):
        pack = Pack(self.tree, self.tree).reference
        self.refused_update("bad_field", pack=pack | {"index_size": GIB})

    def test_inline_pack_of_another_hash(self):
        pack = Pack(self.tree, self.tree)
        self.refused_update("bad_hash", pack=pack.reference | {"inline": pack.bytes[:-1] + b"\xff"})

    def test_inline_pack_of_another_size(self):
        pack = Pack(self.tree, self.tree)
        self.refused_update("size_lie", pack=pack.reference | {"inline": pack.bytes + b"x"})

    def test_another_tree_of_the_same_name(self):
        self.refused_update("foreign_tree", tree=os.urandom(16))

    def test_update_of_another_trusted_publisher(self):
        other = self.victim.stream("other", "other@example.org", self.victim.buses[0])
        self.victim.join(other)
        self.before = self.victim.refused()
        Origin(other, self.server).publish(self.tree)
        self.expect("foreign_tree", "current")

    # ---- packs; the server has nothing else, so that it depends on them ----

    def new_tree(self):
        return Tree(self.tree.content | {b"good": os.urandom(200), b"more": os.urandom(3000)})

    def publish_pack(self, instead=None, **lie):
        new = self.new_tree()
        pack = Pack(self.tree, new, **lie)
        if instead:
            self.server.instead["packs"] = instead(pack)
        return new, self.origin.publish(new, pack, held=False)

    def expect_pack(self, why, others=()):
        self.expect(why, "failed", others={"bad_hash", *others})

    def test_good_pack(self):
        """What the other cases are compared with: it is the lie that is refused."""
        new, number = self.publish_pack()
        self.is_current(number)
        self.assertEqual(on_disk(self.tree_path), new.content)
        self.assertEqual(self.grown(), set())

    def test_pack_of_another_hash(self):
        self.publish_pack(lambda pack: lambda r, _: r.say(200, pack.bytes[:-1] + b"\xff"))
        self.expect_pack("bad_hash")

    def test_truncated_pack(self):
        def cut(pack):
            def answer(request, _):
                self.server.instead.clear()
                self.server.packs[pack.reference["sha256"]] = pack.bytes[:100]
                request.say(200, pack.bytes[:100])
            return answer
        self.publish_pack(cut)
        self.expect_pack("truncated")

    def test_pack_without_end(self):
        self.publish_pack(lambda pack: lambda r, _: r.pour(pack.bytes))
        self.expect_pack("too_large")

    def test_index_of_one_gibibyte(self):
        self.publish_pack(sizes=(GIB, GIB))
        self.expect_pack("too_large", {"size_lie"})

    def test_index_that_decompresses_to_another_size(self):
        self.publish_pack(stored=zstd(b"x" * 50), sizes=(len(zstd(b"x" * 50)), 40))
        self.expect_pack("size_lie")

    def test_index_that_is_a_bomb(self):
        bomb = zstd(b"", says=100, repeat=8192)  # 1 GiB
        self.publish_pack(stored=bomb, sizes=(len(bomb), 100))
        self.expect_pack("bad_compression")

    def test_nodes_that_are_a_bomb(self):
        new = self.new_tree()
        size = len(varint(0) * 2 + varint(len(new.root_node)) + new.root_node)
        self.publish_pack(nodes=zstd(b"", says=size, repeat=8192), raw=size)
        self.expect_pack("bad_compression")

    def test_nodes_of_one_gibibyte(self):
        self.publish_pack(nodes=zstd(b"", says=GIB, repeat=8192), raw=GIB)
        self.expect_pack("too_large")

    def test_contents_that_are_a_bomb(self):
        # The nodes are good, so it is known which files are to come; each is then asked for by its hash.
        new, _ = self.publish_pack(group=zstd(b"", says=3200, repeat=8192))
        until(lambda: str(self.victim.status()), lambda: self.victim.status()["state"] == "incomplete")
        self.assertIn("bad_compression", self.victim.status()["last_error"])
        self.assertIn("bad_compression", self.grown())
        self.assertNotIn(b"more", on_disk(self.tree_path))

    def test_contents_of_one_gibibyte(self):
        self.publish_pack(group=zstd(b"", says=GIB, repeat=8192))
        until(lambda: str(self.victim.status()), lambda: self.victim.status()["state"] == "incomplete")
        self.assertIn("size_lie", self.victim.status()["last_error"])
        self.assertIn("size_lie", self.grown())

    def test_index_that_is_garbage(self):
        self.publish_pack(index=b"\xff" * 300)
        self.expect_pack("too_large")

    def test_pack_for_another_base(self):
        self.publish_pack(base=b"b" * 32)
        self.expect_pack("missing_base")

    def test_pack_that_leads_elsewhere(self):
        node = Raw(file(b"other", mtime=1)).node
        self.publish_pack(records=varint(0) + varint(0) + varint(len(node)) + node)
        self.expect_pack("bad_hash")

    def test_path_of_a_node_in_a_pack_that_leads_out(self):
        node = Raw(file(b"x", mtime=1)).node
        path = b"../outside"
        self.publish_pack(records=varint(0) + varint(len(path)) + path + varint(len(node)) + node)
        self.expect_pack("bad_name")

    def test_children_below_a_link_in_a_pack(self):
        target = str(self.outside).encode()
        root = Raw(entry(b"d", LINK, varint(len(target)) + target, mtime=1)).node
        node = Raw(file(b"precious", mtime=1)).node
        records = varint(0) + varint(0) + varint(len(root)) + root
        records += varint(0) + varint(1) + b"d" + varint(len(node)) + node
        self.publish_pack(records=records, nodes=zstd(records))
        self.expect_pack("bad_count", {"bad_hash"})

    # ---- what a content server does ----

    def publish_instead(self, folder, answer):
        self.server.instead[folder] = answer
        return self.origin.publish(self.new_tree())

    def test_nodes_of_another_hash(self):
        tree = self.new_tree()
        self.server.instead["nodes"] = lambda r, right: r.say(200, right[:-1] + bytes([right[-1] ^ 1]))
        self.origin.publish(tree)
        self.expect("bad_hash", "failed")

    def test_tree_hash_that_nothing_has(self):
        tree = self.new_tree()
        tree.hash = os.urandom(32)
        self.server.instead["nodes"] = lambda r, _: r.say(200, record(tree.hash, tree.root))
        self.origin.publish(tree)
        self.expect("bad_hash", "failed")

    def test_content_of_another_hash(self):
        answer = lambda r, right: r.say(200, right[:-1] + bytes([right[-1] ^ 1]))
        number = self.publish_instead("objects", answer)
        until(lambda: str(self.victim.status()), lambda: self.victim.status()["state"] == "incomplete")
        # The rest of the version is there; what is missing is said, and tried again.
        self.assertEqual(self.victim.status()["version"], number)
        self.assertIn("bad_hash", self.victim.status()["last_error"])
        self.assertIn("bad_hash", self.grown())

    def test_content_larger_than_signed(self):
        answer = lambda r, right: r.pour(right[:33] + struct.pack(">Q", 1 << 62))
        self.publish_instead("objects", answer)
        self.expect("too_large", "failed")

    def test_contents_nobody_asked_for_without_end(self):
        self.publish_instead("nodes", lambda r, right: r.pour(right, record(sha256(b"x"), b"x") * 1000))
        self.expect("bad_hash", "failed")

    def test_the_same_content_without_end(self):
        self.publish_instead("objects", lambda r, right: r.pour(right, right))
        self.expect("bad_hash", "failed")

    def test_answer_that_is_none(self):
        self.publish_instead("nodes", lambda r, _: r.pour(b"x" * 32 + b"\7"))
        self.expect("bad_field", "failed")

    def test_status_500(self):
        self.publish_instead("nodes", lambda r, _: r.say(500, b"sorry" * 100000))
        self.expect("unavailable", "failed")

    def test_content_length_too_long(self):
        self.publish_instead("nodes", lambda r, right: (
            r.say(200, right, **{"Content-Length": len(right) + 9, "Connection": "close"}),
            setattr(r, "close_connection", True)))
        self.expect("unavailable", "failed")

    def test_content_length_too_short(self):
        self.publish_instead("nodes", lambda r, right: (
            r.say(200, right, **{"Content-Length": len(right) - 9}), setattr(r, "close_connection", True)))
        self.expect("truncated", "failed")

    def test_redirects_in_a_circle(self):
        self.publish_instead("nodes", lambda r, _: r.say(307, b"", Location=self.server.url + "/nodes"))
        self.expect("unavailable", "failed")

    def test_redirect_to_a_file(self):
        self.publish_instead("nodes", lambda r, _: r.say(307, b"", Location="file:///etc/passwd"))
        self.expect("unavailable", "failed")


def directory(case):
    """A tree whose root is made by hand."""
    name, why, raw, counts = case

    def test(self):
        tree = Tree(raw)
        tree.counts["entries"] += counts
        self.origin.publish(tree)
        self.expect(why, "refused")

    test.__name__ = f"test_{name}"
    setattr(HostileTree, test.__name__, test)


def link(name, target):
    return entry(name, LINK, varint(len(target)) + target, mtime=1)


for each in (
    ("name_dot", "bad_name", Raw(file(b".", mtime=1)), 0),
    ("name_dot_dot", "bad_name", Raw(entry(b"..", DIRECTORY, b"h" * 32, mtime=1)), 0),
    ("name_with_slash", "bad_name", Raw(file(b"../outside/x", mtime=1)), 0),
    ("name_absolute", "bad_name", Raw(file(b"/etc/passwd", mtime=1)), 0),
    ("name_with_nul", "bad_name", Raw(file(b"a\0b", mtime=1)), 0),
    ("name_empty", "bad_name", Raw(file(b"", mtime=1)), 0),
    ("name_of_256_bytes", "bad_name", Raw(file(b"n" * 256, size=0, mtime=1)), 0),
    ("name_of_our_own_folder", "bad_name", Raw(file(b".mirrorbus", mtime=1)), 0),
    ("names_unsorted", "bad_order", Raw(file(b"b", mtime=1), file(b"a")), 0),
    ("names_twice", "bad_order", Raw(file(b"a", mtime=1), file(b"a")), 0),
    ("link_and_directory_of_one_name", "bad_order",
     Raw(link(b"d", b"/etc"), entry(b"d", DIRECTORY, b"h" * 32)), 0),
    ("link_to_nothing", "bad_target", Raw(link(b"l", b"")), 0),
    ("link_with_nul", "bad_target", Raw(link(b"l", b"a\0b")), 0),
    ("link_of_4096_bytes", "bad_target", Raw(link(b"l", b"l" * 4096)), 0),
    ("mode_with_more_bits", "bad_mode", Raw(file(b"a", mode=0o100644, mtime=1)), 0),
    ("type_unknown", "bad_field", Raw(entry(b"a", 9, b"", mtime=1)), 0),
    ("file_of_2_to_the_63_bytes", "too_large",
     Raw(entry(b"a", FILE, varint(1 << 63) + b"h" * 32, mtime=1)), 0),
    ("node_truncated", "truncated", Raw(file(b"a", mtime=1)[:-1]), 0),
    ("node_of_another_magic", "bad_magic", Raw(file(b"a", mtime=1), magic=b"mbn\2"), 0),
    ("more_entries_than_counted", "bad_count", Raw(file(b"a", mtime=1), file(b"b"), file(b"c")), -1),
):
    directory(each)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
