package magnetar;

import org.apache.bookkeeper.client.BKException;
import org.apache.bookkeeper.client.BookKeeper;
import org.apache.bookkeeper.client.LedgerHandle;

/** A reader that follows an open ledger learns how far it may read: piggy-backed and explicitly. */
final class Confirmed {
    private static final long LIMIT_MS = 30_000;

    private Confirmed() {
    }

    static void run(Cluster cluster) throws Exception {
        BookKeeper reader = cluster.client();
        piggyBacked(cluster.client(), reader);
        explicit(cluster, reader);
    }

    private static void piggyBacked(BookKeeper writer, BookKeeper reader) throws Exception {
        LedgerHandle ledger = Ledgers.create(writer);
        LedgerHandle look = Ledgers.look(reader, ledger.getId());
        Check.equal("confirmed of an empty ledger", -1L, look.readLastConfirmed());
        Ledgers.write(ledger, 0, 10);
        // One after all others are answered: it carries the id of the last one.
        Ledgers.write(ledger, 10, 1);
        Check.equal("confirmed, as the last entry says", 9L, look.readLastConfirmed());
        Check.equal("confirmed, asked of any bookie", 9L, Ledgers.look(reader, ledger.getId()).tryReadLastConfirmed());
        Ledgers.read(look, 0, 9);
        Check.fails("what is not confirmed", BKException.BKReadException.class, () -> look.readEntries(10, 10));
        Check.equal("read unconfirmed", 11,
                Ledgers.compare(ledger.getId(), 0, look.readUnconfirmedEntries(0, 10)));
        ledger.close();
        Check.equal("confirmed once closed", 10L, Ledgers.look(reader, ledger.getId()).readLastConfirmed());
    }

    private static void explicit(Cluster cluster, BookKeeper reader) throws Exception {
        BookKeeper writer = cluster.client(conf -> conf.setExplictLacInterval(20));
        LedgerHandle ledger = Ledgers.create(writer);
        Ledgers.write(ledger, 0, 5);
        LedgerHandle look = Ledgers.look(reader, ledger.getId());
        long deadline = System.nanoTime() + LIMIT_MS * 1_000_000;
        while (look.readExplicitLastConfirmed() != 4) {
            Check.that("the explicit LAC arrives", System.nanoTime() < deadline);
        }
        Ledgers.read(look, 0, 4);
    }
}
