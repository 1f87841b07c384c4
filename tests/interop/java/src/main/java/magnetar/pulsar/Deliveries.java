package magnetar.pulsar;

import java.util.BitSet;
import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.SubscriptionType;

/**
 * What the consumers of one subscription got of messages numbered from 0, of which number {@code n} has key {@code n % keys}.
 * What is acknowledged may come again when its consumer left at once; the first deliveries of a key stand in order.
 */
final class Deliveries {
    /** Every so many-th message of a shared subscription is refused the first time. */
    private static final int REFUSED = 37;

    private final SubscriptionType type;
    private final int keys;
    private final BitSet seen = new BitSet();
    private final BitSet refused = new BitSet();
    /** Of each key, the next number that may come for the first time. */
    private final int[] next;
    private int done;
    private int repeated;
    private String wrong;

    Deliveries(SubscriptionType type, int keys) {
        this.type = type;
        this.keys = keys;
        next = new int[keys];
        for (int key = 0; key < keys; key++) {
            next[key] = key;
        }
    }

    /** Waits until so many have come; false if they do not, or came as they must not. */
    synchronized boolean await(int count) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(Broker.PATIENCE_SECONDS);
        while (done < count && wrong == null) {
            long left = TimeUnit.NANOSECONDS.toMillis(end - System.nanoTime());
            if (left <= 0) {
                return false;
            }
            wait(left);
        }
        check();
        return true;
    }

    synchronized void check() {
        if (wrong != null) {
            throw new AssertionError(type + ": " + wrong);
        }
    }

    synchronized int repeated() {
        return repeated;
    }

    synchronized Set<Integer> missing(int count) {
        Set<Integer> missing = new HashSet<>();
        for (int i = seen.nextClearBit(0); i < count && missing.size() < 10; i = seen.nextClearBit(i + 1)) {
            missing.add(i);
        }
        return missing;
    }

    /** Notes and acknowledges a message. */
    void receive(Consumer<byte[]> consumer, Message<byte[]> message) {
        if (note(Integer.parseInt(Texts.text(message)))) {
            consumer.acknowledgeAsync(message);
        } else {
            consumer.negativeAcknowledge(message);
        }
    }

    /** Whether to acknowledge it. */
    private synchronized boolean note(int number) {
        if (type == SubscriptionType.Shared && number % REFUSED == 0 && !refused.get(number)) {
            refused.set(number);
            return false;
        }
        if (seen.get(number)) {
            repeated++;
            return true;
        }
        int key = number % keys;
        if (type != SubscriptionType.Shared) {
            if (next[key] != number && wrong == null) {
                wrong = "key " + key + ": " + number + " came before " + next[key];
            }
            next[key] = number + keys;
        }
        seen.set(number);
        done++;
        notifyAll();
        return true;
    }
}
