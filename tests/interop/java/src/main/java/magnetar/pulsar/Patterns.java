package magnetar.pulsar;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import magnetar.Check;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.RegexSubscriptionMode;
import org.apache.pulsar.client.api.SubscriptionInitialPosition;
import org.apache.pulsar.client.api.SubscriptionType;

/**
 * A consumer of a pattern gets all topics of that name: those that are there, and those that come. It hears of those by a
 * watcher of the namespace, long before it would look again by itself.
 */
final class Patterns {
    private Patterns() {
    }

    static void run(Broker broker) throws Exception {
        String base = Broker.topic("pattern");
        send(broker, base + "-a", 3);
        send(broker, base.replace("pattern", "other") + "-a", 3);
        Consumer<byte[]> consumer = broker.client.newConsumer()
                .topicsPattern(Pattern.compile(base + "-.*"))
                .patternAutoDiscoveryPeriod(1, TimeUnit.SECONDS)
                .subscriptionTopicsMode(RegexSubscriptionMode.PersistentOnly)
                .subscriptionInitialPosition(SubscriptionInitialPosition.Earliest)
                .subscriptionType(SubscriptionType.Shared)
                // An acknowledgement that nobody waits for may be lost in a restart, and its message comes again.
                .isAckReceiptEnabled(true)
                .subscriptionName("s")
                .subscribe();
        expect(consumer, base + "-a", 3);

        send(broker, base + "-b", 3);
        expect(consumer, base + "-b", 3);
        broker.admin("PUT", Broker.path(base + "-c") + "/partitions", "2");
        send(broker, base + "-c", 4);
        expect(consumer, base + "-c", 4);

        Broker.restart();
        send(broker, base + "-d", 3);
        expect(consumer, base + "-d", 3);

        Texts.nothingComes(consumer);
        consumer.close();
        watched(broker);
    }

    private static void watched(Broker broker) throws Exception {
        String base = Broker.topic("watched");
        Consumer<byte[]> consumer = broker.client.newConsumer()
                .topicsPattern(Pattern.compile(base + "-.*"))
                .patternAutoDiscoveryPeriod(1, TimeUnit.HOURS)
                .subscriptionTopicsMode(RegexSubscriptionMode.PersistentOnly)
                .subscriptionInitialPosition(SubscriptionInitialPosition.Earliest)
                .subscriptionType(SubscriptionType.Shared)
                // An acknowledgement that nobody waits for may be lost in a restart, and its message comes again.
                .isAckReceiptEnabled(true)
                .subscriptionName("s")
                .subscribe();
        send(broker, base + "-a", 3);
        expect(consumer, base + "-a", 3);
        broker.admin("PUT", Broker.path(base + "-b") + "/partitions", "2");
        send(broker, base + "-b", 4);
        expect(consumer, base + "-b", 4);

        // The watcher comes back with its connection.
        Broker.restart();
        send(broker, base + "-c", 3);
        expect(consumer, base + "-c", 3);
        Texts.nothingComes(consumer);
        consumer.close();
    }

    private static void send(Broker broker, String topic, int count) throws Exception {
        try (Producer<byte[]> producer = broker.client.newProducer().topic(topic).create()) {
            Texts.send(producer, Texts.numbered(0, count));
        }
    }

    private static void expect(Consumer<byte[]> consumer, String topic, int count) throws Exception {
        List<String> texts = new ArrayList<>();
        while (texts.size() < count) {
            Message<byte[]> message = Texts.next(consumer);
            Check.that(message.getTopicName() + " is of " + topic, message.getTopicName().startsWith(topic));
            texts.add(Texts.text(message));
            consumer.acknowledge(message);
        }
        texts.sort(null);
        Check.equal("messages of " + topic, Texts.numbered(0, count), texts);
    }
}
