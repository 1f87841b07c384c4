package magnetar.pulsar;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import magnetar.Check;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.MessageIdAdv;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.Reader;
import org.apache.pulsar.client.api.ReaderBuilder;
import org.apache.pulsar.client.api.SubscriptionInitialPosition;

/** Places in a topic: where a reader starts, where a consumer is sent to, where the topic ends. */
final class Positions {
    private static final int COUNT = 30;

    private Positions() {
    }

    static boolean isBatched(MessageId id) {
        return ((MessageIdAdv) id).getBatchSize() > 0;
    }

    static void run(Broker broker) throws Exception {
        for (boolean batching : new boolean[] {false, true}) {
            String topic = Broker.topic("positions");
            Producer<byte[]> producer = broker.client.newProducer()
                    .topic(topic)
                    .enableBatching(batching)
                    .batchingMaxMessages(10)
                    .create();
            List<MessageId> ids = new ArrayList<>(Texts.send(producer, Texts.numbered(0, COUNT)));
            readersStartWhereTheyAreTold(broker, topic, ids);
            consumersAreSentBackAndForth(broker, topic, ids);
            byTime(broker, topic, producer);
            theTail(broker, producer);
            producer.close();
        }
    }

    private static List<String> read(Reader<byte[]> reader) throws Exception {
        List<String> texts = new ArrayList<>();
        while (reader.hasMessageAvailable()) {
            Message<byte[]> message = reader.readNext(Broker.PATIENCE_SECONDS, TimeUnit.SECONDS);
            Check.that("a message is available", message != null);
            texts.add(Texts.text(message));
        }
        reader.close();
        return texts;
    }

    private static void readersStartWhereTheyAreTold(Broker broker, String topic, List<MessageId> ids) throws Exception {
        ReaderBuilder<byte[]> readers = broker.client.newReader().topic(topic);
        Check.equal("all", Texts.numbered(0, COUNT),
                read(readers.clone().startMessageId(MessageId.earliest).create()));
        Check.equal("nothing", List.of(), read(readers.clone().startMessageId(MessageId.latest).create()));
        Check.equal("the last one", List.of("m29"),
                read(readers.clone().startMessageId(MessageId.latest).startMessageIdInclusive().create()));
        for (int i : new int[] {0, 4, 9, 10, 29}) {
            Check.equal("after " + i, Texts.numbered(i + 1, COUNT),
                    read(readers.clone().startMessageId(ids.get(i)).create()));
            Check.equal("from " + i, Texts.numbered(i, COUNT),
                    read(readers.clone().startMessageId(ids.get(i)).startMessageIdInclusive().create()));
        }
        Check.equal("of the last hour", Texts.numbered(0, COUNT),
                read(readers.clone().startMessageFromRollbackDuration(1, TimeUnit.HOURS).create()));
    }

    private static void consumersAreSentBackAndForth(Broker broker, String topic, List<MessageId> ids) throws Exception {
        Consumer<byte[]> consumer = broker.client.newConsumer()
                .topic(topic)
                .subscriptionName("s")
                .subscriptionInitialPosition(SubscriptionInitialPosition.Earliest)
                .subscribe();
        Check.equal("all", Texts.numbered(0, COUNT), Texts.drain(consumer, COUNT));
        Check.equal("the last id", ids.get(COUNT - 1), consumer.getLastMessageIds().get(0));
        // A consumer goes on behind the message that it is sent to.
        for (int i : new int[] {4, 25, 9}) {
            consumer.seek(ids.get(i));
            Check.equal("behind " + i, Texts.numbered(i + 1, COUNT), Texts.drain(consumer, COUNT - i - 1));
        }
        consumer.seek(MessageId.earliest);
        Check.equal("from the start", Texts.numbered(0, COUNT), Texts.drain(consumer, COUNT));
        consumer.seek(MessageId.earliest);
        consumer.seek(MessageId.latest);
        Texts.nothingComes(consumer);
        consumer.close();
    }

    private static void byTime(Broker broker, String topic, Producer<byte[]> producer) throws Exception {
        Consumer<byte[]> consumer = broker.client.newConsumer()
                .topic(topic)
                .subscriptionName("time")
                .subscriptionInitialPosition(SubscriptionInitialPosition.Earliest)
                .subscribe();
        long last = 0;
        for (int i = 0; i < COUNT; i++) {
            last = Texts.next(consumer).getPublishTime();
        }
        // The next one is published in a later millisecond than the others.
        while (System.currentTimeMillis() <= last) {
            Thread.onSpinWait();
        }
        producer.send(Texts.bytes("later"));
        Message<byte[]> later = Texts.next(consumer);
        consumer.seek(later.getPublishTime());
        Check.equal("from its time on", List.of("later"), Texts.drain(consumer, 1));
        consumer.seek(last - TimeUnit.HOURS.toMillis(1));
        Check.equal("of the last hour", COUNT + 1, Texts.drain(consumer, COUNT + 1).size());
        Texts.nothingComes(consumer);
        consumer.close();
    }

    /** A reader that has caught up is told of what comes. */
    private static void theTail(Broker broker, Producer<byte[]> producer) throws Exception {
        try (Reader<byte[]> reader = broker.client.newReader()
                .topic(producer.getTopic())
                .startMessageId(MessageId.latest)
                .create()) {
            Check.that("nothing yet", !reader.hasMessageAvailable());
            producer.send(Texts.bytes("new"));
            Check.that("something", reader.hasMessageAvailable());
            Message<byte[]> message = reader.readNext(Broker.PATIENCE_SECONDS, TimeUnit.SECONDS);
            Check.equal("the new one", "new", Texts.text(message));
            Check.that("nothing more", !reader.hasMessageAvailable());
        }
    }
}
