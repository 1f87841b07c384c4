package magnetar;

import java.util.concurrent.CompletableFuture;
import org.apache.bookkeeper.client.BookKeeper;
import org.apache.bookkeeper.client.LedgerHandle;
import org.apache.bookkeeper.client.api.LastConfirmedAndEntry;

/** A reader that has caught up asks once, and the bookie holds the question until there is something new. */
final class Waiting {
    private static final long WAIT_MS = 300;
    private static final long LONG_WAIT_MS = 30_000;

    private Waiting() {
    }

    static void run(Cluster cluster) throws Exception {
        if (!cluster.isV2()) {
            // Only version 3 can carry a read that waits.
            waiting(cluster.client(), cluster.client(conf -> conf.setReadEntryTimeout(60)));
        }
    }

    private static void waiting(BookKeeper writer, BookKeeper reader) throws Exception {
        LedgerHandle ledger = Ledgers.create(writer);
        Ledgers.write(ledger, 0, 4);
        Ledgers.write(ledger, 4, 1);
        LedgerHandle look = Ledgers.look(reader, ledger.getId());
        Check.equal("confirmed before waiting", 3L, look.readLastConfirmed());

        long before = System.nanoTime();
        try (LastConfirmedAndEntry nothing = Ledgers.wait(look.readLastAddConfirmedAndEntryAsync(4, WAIT_MS, false))) {
            Check.that("nothing new", !nothing.hasEntry() && nothing.getLastAddConfirmed() == 3);
        }
        long waited = (System.nanoTime() - before) / 1_000_000;
        Check.that("the bookie held the read: " + waited + " ms", waited >= WAIT_MS * 9 / 10);

        for (boolean parallel : new boolean[] {false, true}) {
            long next = look.getLastAddConfirmed() + 1;
            before = System.nanoTime();
            CompletableFuture<LastConfirmedAndEntry> asked =
                    look.readLastAddConfirmedAndEntryAsync(next, LONG_WAIT_MS, parallel);
            Ledgers.write(ledger, next + 1, 1);
            try (LastConfirmedAndEntry found = Ledgers.wait(asked)) {
                Check.equal("confirmed after waiting", next, found.getLastAddConfirmed());
                Check.that("the entry comes with it", found.hasEntry());
                Check.equal("which entry", next, found.getEntry().getEntryId());
            }
            waited = (System.nanoTime() - before) / 1_000_000;
            Check.that("answered when it is there: " + waited + " ms", waited < LONG_WAIT_MS / 2);
        }
    }
}
