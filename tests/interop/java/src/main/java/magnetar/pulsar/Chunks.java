package magnetar.pulsar;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import magnetar.Check;
import org.apache.pulsar.client.api.CompressionType;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.Reader;
import org.apache.pulsar.client.api.SubscriptionType;

/** A message larger than the broker takes at once goes in chunks and comes back whole, at one consumer. */
final class Chunks {
    private Chunks() {
    }

    static void run(Broker broker) throws Exception {
        largerThanTheLimit(broker);
        ofSeveralProducersAtSharedConsumers(broker);
    }

    private static byte[] noise(int seed, int size) {
        byte[] bytes = new byte[size];
        new Random(seed).nextBytes(bytes);
        return bytes;
    }

    private static void largerThanTheLimit(Broker broker) throws Exception {
        String topic = Broker.topic("chunks");
        Consumer<byte[]> consumer = broker.client.newConsumer().topic(topic).subscriptionName("s").subscribe();
        byte[] large = noise(1, 12 << 20);
        MessageId id;
        try (Producer<byte[]> producer = broker.client.newProducer()
                .topic(topic)
                .enableBatching(false)
                .enableChunking(true)
                .compressionType(CompressionType.LZ4)
                .create()) {
            producer.send(Texts.bytes("before"));
            id = producer.newMessage().key("k").property("p", "q").value(large).send();
            producer.send(Texts.bytes("after"));
        }
        Check.equal("before", List.of("before"), Texts.drain(consumer, 1));
        Message<byte[]> message = Texts.next(consumer);
        Check.that("12 MiB come back whole", Arrays.equals(large, message.getValue()));
        Check.equal("its key", "k", message.getKey());
        Check.equal("its property", "q", message.getProperty("p"));
        Check.equal("its id", id, message.getMessageId());
        consumer.acknowledge(message);
        Check.equal("after", List.of("after"), Texts.drain(consumer, 1));
        consumer.seek(id);
        Check.equal("after the large one", List.of("after"), Texts.drain(consumer, 1));
        consumer.close();
        try (Reader<byte[]> reader =
                broker.client.newReader().topic(topic).startMessageId(id).startMessageIdInclusive().create()) {
            Message<byte[]> read = reader.readNext(Broker.PATIENCE_SECONDS, TimeUnit.SECONDS);
            Check.that("read from its id on", read != null && Arrays.equals(large, read.getValue()));
        }
    }

    private static void ofSeveralProducersAtSharedConsumers(Broker broker) throws Exception {
        String topic = Broker.topic("chunks-shared");
        List<Consumer<byte[]>> consumers = List.of(shared(broker, topic), shared(broker, topic));
        Map<String, byte[]> sent = new HashMap<>();
        CompletableFuture<?>[] receipts = new CompletableFuture<?>[20];
        Producer<byte[]> left = producer(broker, topic);
        Producer<byte[]> right = producer(broker, topic);
        for (int i = 0; i < receipts.length; i++) {
            byte[] value = noise(i, 200_000 + i);
            sent.put("k" + i, value);
            Producer<byte[]> producer = i % 2 == 0 ? left : right;
            receipts[i] = producer.newMessage().key("k" + i).value(value).sendAsync();
        }
        CompletableFuture.allOf(receipts).get(Broker.PATIENCE_SECONDS, TimeUnit.SECONDS);
        Patience patience = new Patience();
        while (!sent.isEmpty()) {
            for (Consumer<byte[]> consumer : consumers) {
                Message<byte[]> message;
                while ((message = consumer.receive(500, TimeUnit.MILLISECONDS)) != null) {
                    Check.that(message.getKey() + " comes back whole, once",
                            Arrays.equals(sent.remove(message.getKey()), message.getValue()));
                    consumer.acknowledge(message);
                }
            }
            patience.check("messages come");
        }
        left.close();
        right.close();
        for (Consumer<byte[]> consumer : consumers) {
            consumer.redeliverUnacknowledgedMessages();
            Texts.nothingComes(consumer);
            consumer.close();
        }
    }

    private static Producer<byte[]> producer(Broker broker, String topic) throws Exception {
        return broker.client.newProducer()
                .topic(topic)
                .enableBatching(false)
                .enableChunking(true)
                .chunkMaxMessageSize(20_000)
                .create();
    }

    private static Consumer<byte[]> shared(Broker broker, String topic) throws Exception {
        return broker.client.newConsumer()
                .topic(topic)
                .subscriptionName("s")
                .subscriptionType(SubscriptionType.Shared)
                .subscribe();
    }
}
