package magnetar.pulsar;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import magnetar.Check;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.ConsumerBuilder;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageRouter;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.SubscriptionType;
import org.apache.pulsar.client.api.TopicMetadata;

/** Several topics as one: the partitions of one, which grow under live clients, and a list of them. */
final class Partitions {
    private static final int COUNT = 90;

    private Partitions() {
    }

    static void run(Broker broker) throws Exception {
        keysStayInTheirPartition(broker);
        consumersShareThePartitions(broker);
        partitionsGrow(broker);
        aListOfTopics(broker);
    }

    private static String partitioned(Broker broker, int count) throws Exception {
        String topic = Broker.topic("partitioned");
        broker.admin("PUT", Broker.path(topic) + "/partitions", "" + count);
        Check.equal("partitions", count, broker.client.getPartitionsForTopic(topic).get().size());
        return topic;
    }

    private static ConsumerBuilder<byte[]> consumer(Broker broker) {
        return broker.client.newConsumer().subscriptionName("s");
    }

    private static void keysStayInTheirPartition(Broker broker) throws Exception {
        String topic = partitioned(broker, 3);
        Consumer<byte[]> consumer = consumer(broker).topic(topic).subscribe();
        try (Producer<byte[]> producer = broker.client.newProducer().topic(topic).create()) {
            for (int i = 0; i < COUNT; i++) {
                producer.newMessage().key("k" + i % 9).value(Texts.bytes("" + i)).sendAsync();
            }
            producer.flush();
        }
        Map<String, String> places = new HashMap<>();
        Map<String, Integer> last = new HashMap<>();
        for (int i = 0; i < COUNT; i++) {
            Message<byte[]> message = Texts.next(consumer);
            Check.equal("partition of " + message.getKey(), message.getTopicName(),
                    places.computeIfAbsent(message.getKey(), key -> message.getTopicName()));
            int number = Integer.parseInt(Texts.text(message));
            Check.equal("next of " + message.getKey(), last.getOrDefault(message.getKey(), number % 9 - 9) + 9, number);
            last.put(message.getKey(), number);
            consumer.acknowledge(message);
        }
        Check.equal("partitions used", 3, new HashSet<>(places.values()).size());
        consumer.close();
    }

    private static void consumersShareThePartitions(Broker broker) throws Exception {
        String topic = partitioned(broker, 4);
        List<Consumer<byte[]>> consumers = new ArrayList<>();
        for (String name : List.of("a", "b")) {
            consumers.add(consumer(broker).topic(topic)
                    .subscriptionType(SubscriptionType.Failover)
                    .consumerName(name)
                    .subscribe());
        }
        try (Producer<byte[]> producer = broker.client.newProducer()
                .topic(topic)
                .messageRouter(new InTurn())
                .enableBatching(false)
                .create()) {
            Texts.send(producer, Texts.numbered(0, COUNT));
        }
        Set<String> seen = new HashSet<>();
        Map<String, Set<String>> owners = new HashMap<>();
        Patience patience = new Patience();
        while (seen.size() < COUNT) {
            for (Consumer<byte[]> consumer : consumers) {
                Message<byte[]> message;
                while ((message = consumer.receive(300, TimeUnit.MILLISECONDS)) != null) {
                    seen.add(Texts.text(message));
                    owners.computeIfAbsent(consumer.getConsumerName(), name -> new HashSet<>())
                            .add(message.getTopicName());
                    consumer.acknowledge(message);
                }
            }
            patience.check("messages come: " + seen.size());
        }
        Check.that("both consumers have partitions: " + owners, owners.size() == 2);
        for (Consumer<byte[]> consumer : consumers) {
            consumer.close();
        }
    }

    private static void partitionsGrow(Broker broker) throws Exception {
        String topic = partitioned(broker, 1);
        Consumer<byte[]> consumer = consumer(broker).topic(topic)
                .autoUpdatePartitionsInterval(1, TimeUnit.SECONDS)
                .subscribe();
        Producer<byte[]> producer = broker.client.newProducer()
                .topic(topic)
                .autoUpdatePartitionsInterval(1, TimeUnit.SECONDS)
                .messageRouter(new InTurn())
                .enableBatching(false)
                .create();
        producer.send(Texts.bytes("before"));
        broker.admin("POST", Broker.path(topic) + "/partitions", "3");
        Set<String> places = new HashSet<>();
        Patience patience = new Patience();
        while (places.size() < 3) {
            patience.check("the new partitions are used: " + places);
            producer.send(Texts.bytes("m"));
            Message<byte[]> message = consumer.receive(100, TimeUnit.MILLISECONDS);
            if (message != null) {
                places.add(message.getTopicName());
                consumer.acknowledge(message);
            }
        }
        producer.close();
        consumer.close();
    }

    private static void aListOfTopics(Broker broker) throws Exception {
        List<String> topics = List.of(Broker.topic("one"), Broker.topic("two"), partitioned(broker, 2));
        Consumer<byte[]> consumer = consumer(broker).topics(topics).subscribe();
        for (String topic : topics) {
            try (Producer<byte[]> producer = broker.client.newProducer().topic(topic).create()) {
                Texts.send(producer, Texts.numbered(0, 10));
            }
        }
        Map<String, Integer> counts = new HashMap<>();
        for (int i = 0; i < 30; i++) {
            Message<byte[]> message = Texts.next(consumer);
            counts.merge(message.getTopicName().replaceAll("-partition-\\d+$", ""), 1, Integer::sum);
            consumer.acknowledge(message);
        }
        Check.equal("messages a topic", Map.of(topics.get(0), 10, topics.get(1), 10, topics.get(2), 10), counts);
        Texts.nothingComes(consumer);
        consumer.unsubscribe();
        consumer.close();
    }

    /** One message a partition, then the next. */
    private static final class InTurn implements MessageRouter {
        private static final long serialVersionUID = 1;
        private int next;

        @Override
        public int choosePartition(Message<?> message, TopicMetadata metadata) {
            return next++ % metadata.numPartitions();
        }
    }
}
