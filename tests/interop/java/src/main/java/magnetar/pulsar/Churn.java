package magnetar.pulsar;

import org.apache.pulsar.client.api.BatcherBuilder;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.SubscriptionType;

/**
 * Consumers that come and go under load: twelve on one subscription, of which every one is restarted in every round, one after
 * the other, some by closing them and some by dropping their connection. At the end of a round everything published has come.
 */
final class Churn {
    static final int CONSUMERS = 12;
    private static final int KEYS = 48;
    /** Published before each restart. */
    private static final int BURST = 60;

    private Churn() {
    }

    static void run(Broker broker) throws Exception {
        String wanted = System.getenv("MAGNETAR_CHAOS_ROUNDS");
        int rounds = wanted == null ? 5 : Integer.parseInt(wanted);
        for (SubscriptionType type : SubscriptionType.values()) {
            run(broker, type, rounds);
        }
    }

    private static void run(Broker broker, SubscriptionType type, int rounds) throws Exception {
        String topic = Broker.topic("churn-" + type.name().toLowerCase());
        Deliveries seen = new Deliveries(type, KEYS);
        long start = System.nanoTime();
        int sent = 0;
        try (Crowd crowd = new Crowd(broker, topic, type, seen);
                Producer<byte[]> producer = broker.client.newProducer()
                        .topic(topic)
                        .batcherBuilder(BatcherBuilder.KEY_BASED)
                        .blockIfQueueFull(true)
                        .create()) {
            for (int round = 0; round < rounds; round++) {
                for (int i = 0; i < CONSUMERS; i++) {
                    for (int end = sent + BURST; sent < end; sent++) {
                        producer.newMessage().key("" + sent % KEYS).value(Texts.bytes("" + sent)).sendAsync();
                    }
                    crowd.restart(i, round);
                }
                producer.flush();
                if (!seen.await(sent)) {
                    throw new AssertionError(type + ", round " + round + ": " + seen.missing(sent) + " do not come; "
                            + broker.admin("GET", Broker.path(topic) + "/stats", null));
                }
            }
            seen.check();
            Broker.nothingIsLeft(topic, "s");
        }
        System.out.printf("churn %s: %d rounds of %d restarts, %d messages, %d came again, 0 lost, 0 stuck%s, %.1f s%n",
                type, rounds, CONSUMERS, sent, seen.repeated(),
                type == SubscriptionType.Shared ? "" : ", 0 reordered", (System.nanoTime() - start) / 1e9);
    }
}
