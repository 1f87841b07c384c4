package magnetar.pulsar;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import magnetar.Check;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.Reader;
import org.apache.pulsar.client.api.Schema;
import org.apache.pulsar.client.api.TableView;

/** A reader of the compacted topic sees the newest of each key, and then what comes; a table view keeps it at hand. */
final class Compaction {
    private static final int KEYS = 5;
    private static final int COUNT = 50;

    private Compaction() {
    }

    static void run(Broker broker) throws Exception {
        for (boolean batching : new boolean[] {false, true}) {
            String topic = Broker.topic("compaction");
            try (Producer<String> producer =
                    broker.client.newProducer(Schema.STRING).topic(topic).enableBatching(batching).create()) {
                for (int i = 0; i < COUNT; i++) {
                    producer.newMessage().key("k" + i % KEYS).value("" + i).sendAsync();
                }
                // A key without a value is gone.
                producer.newMessage().key("k0").value(null).sendAsync();
                producer.flush();
                TableView<String> before = view(broker, topic);
                Check.equal("before the compaction", newest(), content(before));
                compact(broker, topic);
                Check.equal("what a reader sees", newest(), read(broker, topic));
                Broker.restart();
                Check.equal("after a restart", newest(), read(broker, topic));

                TableView<String> view = view(broker, topic);
                Check.equal("a view", newest(), content(view));
                producer.newMessage().key("k1").value("new").send();
                Map<String, String> expected = newest();
                expected.put("k1", "new");
                for (TableView<String> each : List.of(before, view)) {
                    each.refresh();
                    Check.equal("a view after more", expected, content(each));
                    each.close();
                }
                Check.equal("a reader after more", expected, read(broker, topic));
            }
        }
    }

    private static Map<String, String> newest() {
        Map<String, String> newest = new HashMap<>();
        for (int i = 1; i < KEYS; i++) {
            newest.put("k" + i, "" + (COUNT - KEYS + i));
        }
        return newest;
    }

    private static TableView<String> view(Broker broker, String topic) throws Exception {
        return broker.client.newTableView(Schema.STRING).topic(topic).create();
    }

    private static Map<String, String> content(TableView<String> view) {
        Map<String, String> content = new HashMap<>();
        view.forEach(content::put);
        return content;
    }

    private static void compact(Broker broker, String topic) throws Exception {
        String path = Broker.path(topic) + "/compaction";
        broker.admin("PUT", path, null);
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(Broker.PATIENCE_SECONDS);
        String status;
        do {
            status = broker.admin("GET", path, null);
            Check.that("the compaction succeeds: " + status, !status.contains("ERROR") && System.nanoTime() < end);
        } while (!status.contains("SUCCESS"));
    }

    /** What a reader of the compacted topic sees; no key twice in what was compacted. */
    private static Map<String, String> read(Broker broker, String topic) throws Exception {
        try (Reader<String> reader = broker.client.newReader(Schema.STRING)
                .topic(topic)
                .readCompacted(true)
                .startMessageId(MessageId.earliest)
                .create()) {
            List<String> keys = new ArrayList<>();
            Map<String, String> seen = new HashMap<>();
            while (reader.hasMessageAvailable()) {
                Message<String> message = reader.readNext(Broker.PATIENCE_SECONDS, TimeUnit.SECONDS);
                Check.that("a message is available", message != null);
                keys.add(message.getKey());
                seen.put(message.getKey(), message.getValue());
            }
            Check.that("compacted: " + keys, keys.size() <= KEYS);
            return seen;
        }
    }
}
