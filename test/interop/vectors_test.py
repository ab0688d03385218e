#!/usr/bin/python3
"""The Python decoders against the golden vectors of the C++ ones: vectors_test.py VECTORS"""
import hashlib
import json
import pathlib
import sys
import unittest

import msgpack

import subscriber as mine

VECTORS = pathlib.Path(sys.argv[1])


def vector(name):
    return (VECTORS / name).read_bytes()


class Vectors(unittest.TestCase):
    def test_event(self):
        event = mine.decode_event(vector("event/event.bin"))
        self.assertEqual((event.seq, event.time, event.base), (1000, 1763640000123456789, 3))
        self.assertEqual([mine.previous(event, n) for n in (0, 3, 4, 5, 6, 9)], [999, 999, 999, 700, 0, 0])
        self.assertEqual(msgpack.unpackb(event.body), {"message": "hi"})

    def test_row_and_frame_of_one_batch(self):
        sealed, header, items = mine.decode_row(vector("batch/row.bin"))
        self.assertEqual((header.count, header.number, header.first_seq), (5, 7, 100))
        self.assertEqual(mine.root_of([mine.leaf(*item) for item in items]), header.root)
        topic, frame_sealed, path, event = mine.decode_frame(vector("batch/frame.bin"))
        self.assertEqual((topic, event, frame_sealed), (*items[3], sealed))
        leaf = mine.leaf(topic, event)
        self.assertTrue(mine.path_leads_to(header.root, leaf, 3, 5, path))
        self.assertFalse(mine.path_leads_to(header.root, leaf, 1, 5, path))
        with self.assertRaisesRegex(mine.Refused, "trailing_bytes"):
            mine.path_leads_to(header.root, leaf, 3, 5, path + bytes(32))

    def test_credential(self):
        document, signature = mine.decode_sealed(vector("credential/sealed.bin"))
        self.assertEqual(document, vector("credential/document.bin"))
        self.assertEqual(signature, b"g" * 119)
        credential = mine.decode_credential(document)
        self.assertEqual(credential.publisher, "relayd@relay1.example.org")
        self.assertEqual((credential.epoch, credential.serial, credential.pin_last), (1763640000000, 2, 120))
        self.assertEqual(credential.scopes[0], [b"org", b"example", b"dev", b"**"])
        name = b"\1\x14" + b"f" * 20 + b"\x19relayd@relay1.example.org"
        self.assertEqual(credential.stream, hashlib.sha256(name).digest())

    def test_head(self):
        head = mine.decode_head(vector("head/head.bin"), b"s" * 32)
        self.assertEqual((head.beat, head.since, head.last, head.oldest, head.batch), (42, 100, 120, 1, 9))
        self.assertEqual(head.pairs[0], (b"org.example.dev.shell", 118))
        with self.assertRaisesRegex(mine.Refused, "wrong_stream"):
            mine.decode_head(vector("head/head.bin"), b"x" * 32)

    def test_requests_are_the_same_bytes(self):
        request = {"v": 1, "id": 17, "verb": "replay", "stream": b"s" * 32, "from": 5, "to": 90}
        request |= {"prefix": "org.example.dev", "bytes": 1 << 20}
        self.assertEqual(msgpack.packb(request), vector("serve/replay.bin"))
        answer = msgpack.unpackb(vector("serve/answer.bin"))
        self.assertEqual((answer["status"], answer["through"], answer["more"]), ("ok", 80, True))

        have = {"v": 1, "id": 17, "verb": "have", "name": "distribution", "run": b"r" * 16, "number": 6}
        have |= {"want": 7, "content": "http://192.0.2.7:9944"}
        self.assertEqual(msgpack.packb(have), vector("serve/have.bin"))
        answer = msgpack.unpackb(vector("serve/have_answer.bin"))
        self.assertEqual((answer["pull"], len(answer["sources"]), answer["again_ms"]), ("others", 2, 5000))

    def test_submission_over_http(self):
        packed = msgpack.unpackb(vector("http_submit/submission.bin"))
        text = json.loads(vector("http_submit/submission.json"))
        self.assertEqual(text, packed | {"sender": packed["sender"].hex()})
        self.assertEqual((text["topic"], text["n"]), ("org.example.dev.shell.done", 7))
        # The name that an Idempotency-Key stands for, as proto/http_submit.md says and its test has it.
        client = hashlib.sha256(b"token:build").digest()
        name = hashlib.sha256(b"mirrorbus idem 1" + client + b"job 7").hexdigest()[:32]
        self.assertEqual(name, "f8e565e12ed4fb317facfaf809a6668b")

    def test_no_prefix_of_a_vector_is_taken(self):
        decoders = {
            "batch/row.bin": mine.decode_row,
            "credential/document.bin": mine.decode_credential,
            "credential/sealed.bin": mine.decode_sealed,
            "head/head.bin": lambda data: mine.decode_head(data, b"s" * 32),
        }
        for name, decode in decoders.items():
            for size in range(0, len(vector(name)), 3):
                with self.assertRaises(mine.Refused, msg=f"{name}, {size} bytes"):
                    decode(vector(name)[:size])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
