package magnetar.pulsar;

import java.util.concurrent.TimeUnit;
import magnetar.Check;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.PulsarClient;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.client.api.SubscriptionType;

/** The consumers of one subscription. Of an exclusive one only one at a time is connected. */
final class Crowd implements AutoCloseable {
    private final Broker broker;
    private final String topic;
    private final SubscriptionType type;
    private final Deliveries seen;
    private final Member[] members = new Member[Churn.CONSUMERS];

    /** A consumer, and the client of its own if it is to be dropped. */
    private record Member(Consumer<byte[]> consumer, PulsarClient client) {
    }

    Crowd(Broker broker, String topic, SubscriptionType type, Deliveries seen) throws Exception {
        this.broker = broker;
        this.topic = topic;
        this.type = type;
        this.seen = seen;
        int connected = type == SubscriptionType.Exclusive ? 1 : members.length;
        for (int i = 0; i < connected; i++) {
            members[i] = join(i, false);
        }
    }

    /** Ends one consumer and starts it again, or, of an exclusive subscription, the next one. */
    void restart(int number, int round) throws Exception {
        leave(number);
        int next = type == SubscriptionType.Exclusive ? (number + 1) % members.length : number;
        // Another one each round has a connection of its own, which is dropped.
        members[next] = join(next, (next + round) % 6 == 0);
        if (type == SubscriptionType.Exclusive) {
            Check.fails("a second consumer", PulsarClientException.ConsumerBusyException.class,
                    () -> join(number, false));
        }
    }

    private Member join(int number, boolean alone) throws Exception {
        PulsarClient client = alone ? broker.droppable() : null;
        Consumer<byte[]> consumer = (alone ? client : broker.client).newConsumer()
                .topic(topic)
                .subscriptionName("s")
                .subscriptionType(type)
                .consumerName("c" + number)
                .receiverQueueSize(100)
                .negativeAckRedeliveryDelay(50, TimeUnit.MILLISECONDS)
                .messageListener(seen::receive)
                .subscribe();
        return new Member(consumer, client);
    }

    private void leave(int number) throws Exception {
        Member member = members[number];
        members[number] = null;
        if (member.client() == null) {
            member.consumer().close();
        } else {
            member.client().shutdown();
            Broker.dropped();
        }
    }

    @Override
    public void close() throws Exception {
        for (int i = 0; i < members.length; i++) {
            if (members[i] != null) {
                leave(i);
            }
        }
    }
}
