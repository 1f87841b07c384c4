package magnetar;

import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.concurrent.atomic.LongAdder;
import org.apache.bookkeeper.client.BKException;
import org.apache.bookkeeper.client.BookKeeper;
import org.apache.bookkeeper.client.LedgerHandle;

/**
 * {@code Main load METADATA-URI VERSION PAYLOAD-BYTES IN-FLIGHT WARM-UP-SECONDS SECONDS}: adds to one ledger on one
 * bookie, always as many in flight. Prints {@code MEASURE} when it is warm and counts from the harness's answer on;
 * then {@code MEASURED adds seconds p50-us p99-us}.
 */
final class Load {
    /** Latencies are kept by microsecond; what takes longer counts as this. */
    private static final int MICROS_MAX = 4_000_000;

    private final LedgerHandle ledger;
    private final byte[] payload;
    private final Semaphore free;
    private final int inFlight;
    private final LongAdder added = new LongAdder();
    private volatile AtomicLongArray micros = new AtomicLongArray(MICROS_MAX + 1);
    private volatile int failure = BKException.Code.OK;

    private Load(LedgerHandle ledger, int bytes, int inFlight) {
        this.ledger = ledger;
        this.inFlight = inFlight;
        payload = Ledgers.payload(ledger.getId(), 0, bytes);
        free = new Semaphore(inFlight);
    }

    static void run(String[] args) throws Exception {
        Cluster cluster = new Cluster(args[1], args[2].equals("v2"));
        // As Pulsar's broker: no limit on the client's side.
        BookKeeper client = cluster.client(conf -> conf.setThrottleValue(0));
        LedgerHandle ledger = client.createLedger(1, 1, 1, Ledgers.DIGEST, Ledgers.PASSWORD);
        Load load = new Load(ledger, Integer.parseInt(args[3]), Integer.parseInt(args[4]));
        load.add(Long.parseLong(args[5]));
        cluster.measure();
        load.micros = new AtomicLongArray(MICROS_MAX + 1);
        load.added.reset();
        long start = System.nanoTime();
        load.add(Long.parseLong(args[6]));
        double seconds = (System.nanoTime() - start) / 1e9;
        System.out.printf("MEASURED %d %.3f %d %d%n", load.added.sum(), seconds, load.quantile(0.5), load.quantile(0.99));
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    /** Returns when the last add is answered. */
    private void add(long seconds) throws Exception {
        long end = System.nanoTime() + seconds * 1_000_000_000L;
        while (System.nanoTime() < end) {
            free.acquire();
            long sent = System.nanoTime();
            ledger.asyncAddEntry(payload, (code, handle, entry, context) -> {
                if (code != BKException.Code.OK) {
                    failure = code;
                }
                long took = (System.nanoTime() - sent) / 1_000;
                micros.incrementAndGet((int) Math.min(took, MICROS_MAX));
                added.increment();
                free.release();
            }, null);
        }
        free.acquire(inFlight);
        free.release(inFlight);
        if (failure != BKException.Code.OK) {
            throw BKException.create(failure);
        }
    }

    private int quantile(double part) {
        long below = (long) (added.sum() * part);
        int at = 0;
        while (at < MICROS_MAX && (below -= micros.get(at)) > 0) {
            at++;
        }
        return at;
    }
}
