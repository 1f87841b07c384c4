"""Subscriptions that want a part of a topic only: the broker leaves the rest out."""

import json
import urllib.error
import urllib.request

import pulsar
from common import Case, HTTP_URL, TIMEOUT_MS, drain, topic


def admin(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(HTTP_URL + path, data, method=method)) as answer:
        text = answer.read()
    return json.loads(text) if text else None


class EntryFilters(Case):
    def test_only_entries_with_a_wanted_message_come(self):
        name = topic("filtered")
        path = "/admin/v2/" + name.replace("://", "/")
        policy = {"entryFilterNames": "properties"}
        admin("POST", path + "/entryFilters", policy)
        self.assertEqual(admin("GET", path + "/entryFilters"), policy)
        producer = self.client.create_producer(name, batching_enabled=False)
        earliest = {"ledgerId": -1, "entryId": -1}
        arguments = {"filter.property.region": "eu|us", "filter.property.kind": "order"}
        admin("PUT", path + "/subscription/wanted", {**earliest, "properties": arguments})
        admin("PUT", path + "/subscription/all", earliest)
        regions = ["eu", "asia", "us"]
        for n in range(30):
            properties = {"region": regions[n % 3], "kind": "order" if n < 15 else "bill"}
            producer.send(str(n).encode(), properties=properties)
        wanted = self.client.subscribe(name, "wanted", pulsar.ConsumerType.Shared)
        self.assertEqual(drain(wanted, 10), [str(n) for n in range(15) if n % 3 != 1])
        self.nothing_comes(wanted)
        everything = self.client.subscribe(name, "all")
        self.assertEqual(drain(everything, 30), [str(n) for n in range(30)])

        # Batches are looked into.
        batches = self.client.create_producer(
            name, batching_enabled=True, batching_max_publish_delay_ms=100, compression_type=pulsar.CompressionType.ZSTD
        )
        for kind in ("bill", "order"):
            for text in ("x", "y"):
                batches.send_async(f"{kind}-{text}".encode(), lambda *_: None, properties={"region": "eu", "kind": kind})
            batches.flush()
        message = wanted.receive(timeout_millis=TIMEOUT_MS)
        self.assertEqual(message.data(), b"order-x")

    def test_filters_that_there_are_not_are_refused(self):
        for path in ("/admin/v2/namespaces/public/default/entryFilters", "/admin/v2/persistent/public/default/t/entryFilters"):
            with self.assertRaises(urllib.error.HTTPError) as refused:
                admin("POST", path, {"entryFilterNames": "jms"})
            self.assertEqual(refused.exception.code, 412)
