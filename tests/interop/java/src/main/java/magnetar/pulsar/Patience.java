package magnetar.pulsar;

import java.util.concurrent.TimeUnit;
import magnetar.Check;

/** How long a suite waits for what is sure to come, however busy the machine is. */
final class Patience {
    private final long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(Broker.PATIENCE_SECONDS);

    /** Fails once it is over. */
    void check(String what) {
        Check.that(what, System.nanoTime() < end);
    }
}
