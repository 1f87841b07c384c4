package magnetar;

import java.util.List;
import java.util.Map;
import org.apache.bookkeeper.client.BookKeeper;
import org.apache.bookkeeper.client.BookKeeperAdmin;
import org.apache.bookkeeper.client.BookieInfoReader.BookieInfo;
import org.apache.bookkeeper.client.LedgerHandle;
import org.apache.bookkeeper.net.BookieId;
import org.apache.bookkeeper.util.AvailabilityOfEntriesOfLedger;

/** What bookies say of themselves: their space, and which entries they hold. */
final class Information {
    private static final int COUNT = 101;

    private Information() {
    }

    static void run(Cluster cluster) throws Exception {
        BookKeeper client = cluster.client();
        Map<BookieId, BookieInfo> bookies = client.getBookieInfo();
        Check.that("all bookies tell their space: " + bookies, bookies.size() >= 3);
        bookies.forEach((bookie, info) -> Check.that("space of " + bookie + ": " + info,
                info.getFreeDiskSpace() > 0 && info.getTotalDiskSpace() >= info.getFreeDiskSpace()));
        if (!cluster.isV2()) {
            // Upstream's client has no way to ask this over version 2.
            entries(client);
        }
    }

    private static void entries(BookKeeper client) throws Exception {
        LedgerHandle ledger = client.createLedger(3, 2, 2, Ledgers.DIGEST, Ledgers.PASSWORD);
        Ledgers.write(ledger, 0, COUNT);
        ledger.close();
        List<BookieId> ensemble = Ledgers.lastEnsemble(ledger);
        try (BookKeeperAdmin admin = new BookKeeperAdmin(client)) {
            for (int slot = 0; slot < ensemble.size(); slot++) {
                AvailabilityOfEntriesOfLedger held =
                        Ledgers.wait(admin.asyncGetListOfEntriesOfLedger(ensemble.get(slot), ledger.getId()));
                for (long entry = 0; entry < COUNT; entry++) {
                    // Entry i lies in slots i and i + 1.
                    boolean expected = entry % 3 == slot || (entry + 1) % 3 == slot;
                    Check.equal("entry " + entry + " in slot " + slot, expected, held.isEntryAvailable(entry));
                }
                Check.that("nothing past the end", !held.isEntryAvailable(COUNT));
            }
        }
    }
}
