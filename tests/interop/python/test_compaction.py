"""Compaction as clients see it: readers and table views over what is left."""

import json
import time
import urllib.request

import pulsar
from common import Case, HTTP_URL, TIMEOUT_MS, topic


def path(name):
    return HTTP_URL + "/admin/v2/" + name.replace("://", "/") + "/compaction"


def compact(name):
    urllib.request.urlopen(urllib.request.Request(path(name), method="PUT")).close()
    give_up = time.monotonic() + TIMEOUT_MS / 1000
    while time.monotonic() < give_up:
        with urllib.request.urlopen(path(name)) as answer:
            status = json.load(answer)
        if status["status"] != "RUNNING":
            assert status["status"] == "SUCCESS", status
            return
    raise AssertionError("the compaction does not end")


class Compaction(Case):
    def publish(self, name, messages, **options):
        producer = self.client.create_producer(name, **options)
        for key, value in messages:
            producer.send_async(value.encode(), lambda *_: None, partition_key=key)
        producer.flush()
        producer.close()

    def read(self, name):
        reader = self.client.create_reader(name, pulsar.MessageId.earliest, is_read_compacted=True)
        seen = []
        while reader.has_message_available():
            message = reader.read_next(timeout_millis=TIMEOUT_MS)
            seen.append((message.partition_key(), message.data().decode()))
        reader.close()
        return seen

    def check(self, **options):
        name = topic("compacted")
        rounds = [(f"k{n % 10}", f"{n}") for n in range(200)]
        self.publish(name, rounds, **options)
        self.publish(name, [("k3", ""), ("k4", "four")], **options)
        compact(name)
        left = [(f"k{n % 10}", f"{n}") for n in range(190, 200) if n % 10 not in (3, 4)]
        self.assertEqual(self.read(name), left + [("k4", "four")])
        self.publish(name, [("k4", ""), ("new", "n")], **options)
        self.assertEqual(self.read(name), left + [("k4", "four"), ("k4", ""), ("new", "n")])
        compact(name)
        self.assertEqual(self.read(name), left + [("new", "n")])

    def test_a_reader_sees_the_newest_of_each_key(self):
        self.check(batching_enabled=False)

    def test_single_messages_leave_their_batches(self):
        self.check(batching_enabled=True, batching_max_publish_delay_ms=50)

    def test_compressed_batches_are_taken_apart(self):
        for compression in ("LZ4", "ZLib", "ZSTD", "SNAPPY"):
            with self.subTest(compression):
                kind = getattr(pulsar.CompressionType, compression)
                self.check(batching_enabled=True, batching_max_publish_delay_ms=50, compression_type=kind)

    def test_a_reader_does_not_wait_where_everything_was_deleted(self):
        name = topic("all-deleted")
        self.publish(name, [("a", "1"), ("b", "2"), ("a", ""), ("b", "")])
        compact(name)
        self.assertEqual(self.read(name), [])

    def test_a_table_view_has_the_newest_of_each_key_and_follows(self):
        name = topic("table")
        self.publish(name, [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("b", "")], batching_enabled=True)
        compact(name)
        table = self.client.create_table_view(name)
        entries = {}
        table.for_each(lambda key, value: entries.update({key: bytes(value).decode()}))
        self.assertEqual(entries, {"a": "2", "c": "1"})
        self.publish(name, [("b", "3")])
        give_up = time.monotonic() + TIMEOUT_MS / 1000
        while table.get("b") is None and time.monotonic() < give_up:
            pass
        self.assertEqual(bytes(table.get("b")).decode(), "3")
        table.close()
