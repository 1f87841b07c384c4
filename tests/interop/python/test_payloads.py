"""Compression codecs, chunked and large messages."""

import hashlib
import os

import pulsar
from common import Case, TIMEOUT_MS, topic


class Payloads(Case):
    def test_every_compression_codec(self):
        codecs = [c for c in pulsar.CompressionType.__members__.values()]
        self.assertGreaterEqual(len(codecs), 5)
        payload = b"magnetar " * 5000
        for codec in codecs:
            for batching in (False, True):
                with self.subTest(codec=codec, batching=batching):
                    name = topic("codec")
                    consumer = self.client.subscribe(name, "s")
                    producer = self.client.create_producer(name, compression_type=codec, batching_enabled=batching)
                    for _ in range(10):
                        producer.send_async(payload, None)
                    producer.flush()
                    for _ in range(10):
                        message = consumer.receive(timeout_millis=TIMEOUT_MS)
                        self.assertEqual(message.data(), payload)
                        consumer.acknowledge(message)

    def test_a_chunked_message_of_20_mib(self):
        payload = os.urandom(20 * 1024 * 1024)
        for kind in (pulsar.ConsumerType.Exclusive, pulsar.ConsumerType.Shared):
            with self.subTest(kind=kind):
                name = topic("chunked")
                consumer = self.client.subscribe(name, "s", kind)
                producer = self.client.create_producer(name, chunking_enabled=True, batching_enabled=False)
                producer.send(payload)
                producer.send(b"after")
                message = consumer.receive(timeout_millis=60_000)
                self.assertEqual(hashlib.sha256(message.data()).digest(), hashlib.sha256(payload).digest())
                consumer.acknowledge(message)
                self.assertEqual(consumer.receive(timeout_millis=TIMEOUT_MS).data(), b"after")

    def test_a_message_over_the_limit_is_refused_by_the_client_and_the_largest_goes_through(self):
        name = topic("large")
        consumer = self.client.subscribe(name, "s")
        producer = self.client.create_producer(name)
        with self.assertRaises(pulsar.MessageTooBig):
            producer.send(b"x" * (6 * 1024 * 1024))
        largest = b"y" * (5 * 1024 * 1024 - 1024)
        producer.send(largest)
        self.assertEqual(consumer.receive(timeout_millis=TIMEOUT_MS).data(), largest)

    def test_an_empty_message(self):
        name = topic("empty")
        consumer = self.client.subscribe(name, "s")
        for batching in (False, True):
            producer = self.client.create_producer(name, batching_enabled=batching)
            producer.send(b"")
            self.assertEqual(consumer.receive(timeout_millis=TIMEOUT_MS).data(), b"")
