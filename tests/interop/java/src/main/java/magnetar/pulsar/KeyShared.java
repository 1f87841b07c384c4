package magnetar.pulsar;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import magnetar.Check;
import org.apache.pulsar.client.api.BatcherBuilder;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.ConsumerBuilder;
import org.apache.pulsar.client.api.KeySharedPolicy;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.client.api.Range;
import org.apache.pulsar.client.api.SubscriptionType;

/** Each key belongs to one consumer at a time and stays in order, also in batches and while consumers come and go. */
final class KeyShared {
    private static final int KEYS = 20;
    private static final int COUNT = 1_000;

    private KeyShared() {
    }

    static void run(Broker broker) throws Exception {
        keysStayTogether(broker);
        aKeyMovesOnlyWhenItsMessagesAreAcknowledged(broker);
        rangesAreKept(broker);
    }

    private static ConsumerBuilder<byte[]> consumer(Broker broker, String topic) {
        return broker.client.newConsumer()
                .topic(topic)
                .subscriptionName("s")
                .subscriptionType(SubscriptionType.Key_Shared);
    }

    private static void publish(Broker broker, String topic, int from, int to) throws Exception {
        try (Producer<byte[]> producer = broker.client.newProducer()
                .topic(topic)
                .batcherBuilder(BatcherBuilder.KEY_BASED)
                .batchingMaxMessages(100)
                // Longer than publishing takes: by count alone each key has five messages in a batch, none goes alone.
                .batchingMaxPublishDelay(10, TimeUnit.SECONDS)
                .create()) {
            for (int i = from; i < to; i++) {
                producer.newMessage().key("k" + i % KEYS).value(Texts.bytes("" + i)).sendAsync();
            }
            producer.flush();
        }
    }

    private static void keysStayTogether(Broker broker) throws Exception {
        String topic = Broker.topic("key-shared");
        List<Consumer<byte[]>> consumers = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            consumers.add(consumer(broker, topic).consumerName("c" + i).subscribe());
        }
        publish(broker, topic, 0, COUNT);
        Map<String, String> owners = new HashMap<>();
        Map<String, Integer> last = new HashMap<>();
        int batched = 0;
        Patience patience = new Patience();
        for (int seen = 0; seen < COUNT;) {
            for (Consumer<byte[]> consumer : consumers) {
                Message<byte[]> message;
                while ((message = consumer.receive(50, TimeUnit.MILLISECONDS)) != null) {
                    String key = message.getKey();
                    int number = Integer.parseInt(Texts.text(message));
                    Check.equal("owner of " + key, consumer.getConsumerName(),
                            owners.computeIfAbsent(key, any -> consumer.getConsumerName()));
                    Check.equal("next of " + key, last.getOrDefault(key, number % KEYS - KEYS) + KEYS, number);
                    last.put(key, number);
                    batched += Positions.isBatched(message.getMessageId()) ? 1 : 0;
                    consumer.acknowledge(message);
                    seen++;
                }
            }
            patience.check("messages come: " + seen);
        }
        Check.equal("keys seen", KEYS, owners.size());
        Check.that("all consumers have keys", new HashSet<>(owners.values()).size() == 3);
        Check.that("most came in batches: " + batched, batched > COUNT / 2);
        for (Consumer<byte[]> consumer : consumers) {
            Texts.nothingComes(consumer);
            consumer.close();
        }
    }

    /** The first consumer holds all keys unacknowledged; a second one joins and must get none of their messages until then. */
    private static void aKeyMovesOnlyWhenItsMessagesAreAcknowledged(Broker broker) throws Exception {
        String topic = Broker.topic("key-shared-move");
        Consumer<byte[]> first = consumer(broker, topic).consumerName("first").subscribe();
        publish(broker, topic, 0, COUNT);
        List<Message<byte[]>> held = new ArrayList<>();
        while (held.size() < COUNT) {
            held.add(Texts.next(first));
        }
        Consumer<byte[]> second = consumer(broker, topic).consumerName("second").subscribe();
        publish(broker, topic, COUNT, 2 * COUNT);
        Map<String, Integer> keysOfSecond = new HashMap<>();
        // Keys that stay with the first consumer come to it at once; those that move wait for its acknowledgements.
        Texts.nothingComes(second);
        for (Message<byte[]> message : held) {
            first.acknowledge(message);
        }
        Map<String, Integer> last = new HashMap<>();
        Map<String, String> owners = new HashMap<>();
        Patience patience = new Patience();
        for (int seen = 0; seen < COUNT;) {
            for (Consumer<byte[]> consumer : List.of(first, second)) {
                Message<byte[]> message;
                while ((message = consumer.receive(50, TimeUnit.MILLISECONDS)) != null) {
                    String key = message.getKey();
                    int number = Integer.parseInt(Texts.text(message));
                    Check.equal("owner of " + key, consumer.getConsumerName(),
                            owners.computeIfAbsent(key, any -> consumer.getConsumerName()));
                    Check.equal("next of " + key, last.getOrDefault(key, COUNT + number % KEYS - KEYS) + KEYS, number);
                    last.put(key, number);
                    keysOfSecond.merge(key, consumer == second ? 1 : 0, Integer::sum);
                    consumer.acknowledge(message);
                    seen++;
                }
            }
            patience.check("messages come: " + seen);
        }
        Check.that("keys moved", keysOfSecond.values().stream().anyMatch(count -> count > 0));
        first.close();
        second.close();
    }

    private static void rangesAreKept(Broker broker) throws Exception {
        String topic = Broker.topic("key-shared-sticky");
        Consumer<byte[]> low = consumer(broker, topic)
                .keySharedPolicy(KeySharedPolicy.stickyHashRange().ranges(Range.of(0, 32_767)))
                .subscribe();
        Check.fails("an overlapping range", PulsarClientException.ConsumerAssignException.class,
                () -> consumer(broker, topic)
                        .keySharedPolicy(KeySharedPolicy.stickyHashRange().ranges(Range.of(30_000, 65_535)))
                        .subscribe());
        Consumer<byte[]> high = consumer(broker, topic)
                .keySharedPolicy(KeySharedPolicy.stickyHashRange().ranges(Range.of(32_768, 65_535)))
                .subscribe();
        publish(broker, topic, 0, KEYS);
        Patience patience = new Patience();
        for (int seen = 0; seen < KEYS;) {
            for (Consumer<byte[]> consumer : List.of(low, high)) {
                Message<byte[]> message;
                while ((message = consumer.receive(50, TimeUnit.MILLISECONDS)) != null) {
                    int hash = org.apache.pulsar.common.util.Murmur3_32Hash.getInstance()
                            .makeHash(Texts.bytes(message.getKey())) % 65_536;
                    Check.equal("place of " + message.getKey(), consumer == low, hash < 32_768);
                    consumer.acknowledge(message);
                    seen++;
                }
            }
            patience.check("messages come: " + seen);
        }
        low.close();
        high.close();
    }
}
