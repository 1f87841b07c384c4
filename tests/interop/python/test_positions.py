"""Seek, readers, last message id."""

import pulsar
from common import Case, TIMEOUT_MS, drain, send_all, topic


class Positions(Case):
    def publish(self, name, count, **options):
        producer = self.client.create_producer(name, **options)
        ids = [producer.send(str(i).encode()) for i in range(count)]
        producer.close()
        return ids

    def test_seek_by_id_sends_what_follows(self):
        name = topic("seek")
        consumer = self.client.subscribe(name, "s")
        ids = self.publish(name, 20)
        drain(consumer, 20)
        consumer.seek(ids[9])
        self.assertEqual(drain(consumer, 10), [str(i) for i in range(10, 20)])
        consumer.seek(pulsar.MessageId.earliest)
        self.assertEqual(drain(consumer, 20), [str(i) for i in range(20)])
        consumer.seek(pulsar.MessageId.latest)
        self.nothing_comes(consumer)

    def test_seek_by_time_finds_the_first_message_not_older(self):
        name = topic("seek-time")
        consumer = self.client.subscribe(name, "s")
        self.publish(name, 5)
        last = [consumer.receive(timeout_millis=TIMEOUT_MS) for _ in range(5)][-1]
        consumer.acknowledge_cumulative(last)
        import time

        while int(time.time() * 1000) <= last.publish_timestamp() + 1:
            pass
        between = int(time.time() * 1000)
        producer = self.client.create_producer(name)
        for i in range(5, 10):
            producer.send(str(i).encode())
        drain(consumer, 5)
        consumer.seek(between)
        self.assertEqual(drain(consumer, 5), [str(i) for i in range(5, 10)])

    def test_a_reader_from_earliest_latest_and_an_id(self):
        name = topic("reader")
        ids = self.publish(name, 10, batching_enabled=False)
        reader = self.client.create_reader(name, pulsar.MessageId.earliest)
        got = []
        while reader.has_message_available():
            got.append(reader.read_next(timeout_millis=TIMEOUT_MS).data().decode())
        self.assertEqual(got, [str(i) for i in range(10)])
        reader.close()
        reader = self.client.create_reader(name, ids[4])
        self.assertEqual(reader.read_next(timeout_millis=TIMEOUT_MS).data(), b"5")
        reader.close()
        reader = self.client.create_reader(name, ids[4], start_message_id_inclusive=True)
        self.assertEqual(reader.read_next(timeout_millis=TIMEOUT_MS).data(), b"4")
        reader.close()
        reader = self.client.create_reader(name, pulsar.MessageId.latest)
        self.assertFalse(reader.has_message_available())
        self.client.create_producer(name).send(b"new")
        self.assertEqual(reader.read_next(timeout_millis=TIMEOUT_MS).data(), b"new")

    def test_a_reader_of_batches(self):
        name = topic("reader-batch")
        producer = self.client.create_producer(
            name, batching_enabled=True, batching_max_messages=10, batching_max_publish_delay_ms=1000
        )
        texts = [str(i) for i in range(30)]
        send_all(producer, texts)
        reader = self.client.create_reader(name, pulsar.MessageId.earliest)
        got = []
        while reader.has_message_available():
            got.append(reader.read_next(timeout_millis=TIMEOUT_MS).data().decode())
        self.assertEqual(got, texts)

    def test_last_message_id(self):
        name = topic("last")
        consumer = self.client.subscribe(name, "s")
        self.assertEqual(consumer.get_last_message_id().entry_id(), -1)
        ids = self.publish(name, 3)
        last = consumer.get_last_message_id()
        self.assertEqual((last.ledger_id(), last.entry_id()), (ids[-1].ledger_id(), ids[-1].entry_id()))
