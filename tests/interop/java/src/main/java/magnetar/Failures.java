package magnetar;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.bookkeeper.client.BookKeeper;
import org.apache.bookkeeper.client.LedgerHandle;
import org.apache.bookkeeper.net.BookieId;

/** Bookies die and come back: the writer goes on with another one, and nothing acknowledged is lost. */
final class Failures {
    private static final int COUNT = 400;

    private Failures() {
    }

    static void run(Cluster cluster) throws Exception {
        BookKeeper writer = cluster.client();
        LedgerHandle ledger = Ledgers.create(writer);
        List<BookieId> before = Ledgers.lastEnsemble(ledger);
        List<CompletableFuture<Long>> added = new ArrayList<>();
        for (long entry = 0; entry < COUNT; entry++) {
            if (entry == COUNT / 2) {
                cluster.kill(before.subList(0, 1));
            }
            added.add(Ledgers.add(ledger, Ledgers.payload(ledger.getId(), entry, Ledgers.size(entry))));
        }
        for (CompletableFuture<Long> add : added) {
            Ledgers.wait(add);
        }
        // The other two may confirm everything before the client has noticed: it looks for another bookie at the next add.
        long count = COUNT;
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (Ledgers.lastEnsemble(ledger).contains(before.get(0))) {
            Check.that("the dead bookie is replaced: " + before, System.nanoTime() < end);
            Ledgers.write(ledger, count++, 1);
        }
        List<BookieId> after = Ledgers.lastEnsemble(ledger);
        Ledgers.write(ledger, count, 10);
        count += 10;
        ledger.close();

        // All at once, as when the power fails, but for the one that is down already.
        cluster.kill(after);
        List<BookieId> all = new ArrayList<>(after);
        all.add(before.get(0));
        cluster.restart(all);
        LedgerHandle again = Ledgers.recover(cluster.client(), ledger.getId());
        Check.equal("last entry", count - 1, again.getLastAddConfirmed());
        Ledgers.read(again, 0, count - 1);
    }
}
