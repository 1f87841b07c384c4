package magnetar;

import java.lang.reflect.Field;
import org.apache.bookkeeper.client.BKException;
import org.apache.bookkeeper.client.BookKeeper;
import org.apache.bookkeeper.client.BookKeeper.DigestType;
import org.apache.bookkeeper.client.LedgerHandle;

/** What was written comes back byte for byte, with every digest, password and way of reading that the client has. */
final class RoundTrip {
    /** Payloads above this are the odd long ones. */
    static final int LONG = 1 << 20;

    /** With the fields of a request around it this is just within the client's frame. */
    private static final int LONGEST = Cluster.FRAME_BYTES - 512;

    private RoundTrip() {
    }

    static void run(Cluster cluster) throws Exception {
        BookKeeper writer = cluster.client();
        BookKeeper reader = cluster.client();
        for (DigestType digest : DigestType.values()) {
            for (String password : new String[] {"", "secret"}) {
                digest(writer, reader, digest, password.getBytes());
            }
        }
        whole(cluster, writer, reader);
        striped(writer, reader);
    }

    private static void digest(BookKeeper writer, BookKeeper reader, DigestType digest, byte[] password)
            throws Exception {
        LedgerHandle ledger = writer.createLedger(3, 3, 2, digest, password);
        Ledgers.write(ledger, 0, 60);
        ledger.close();
        LedgerHandle again = reader.openLedger(ledger.getId(), digest, password);
        Check.equal("length with " + digest, ledger.getLength(), again.getLength());
        Ledgers.read(again, 0, 59);
        Check.fails("a wrong password", BKException.BKUnauthorizedAccessException.class,
                () -> reader.openLedger(ledger.getId(), digest, "other".getBytes()));
    }

    /** A thousand entries in flight, then one that fills a frame, read one by one, in ranges and in batches. */
    private static void whole(Cluster cluster, BookKeeper writer, BookKeeper reader) throws Exception {
        LedgerHandle ledger = Ledgers.create(writer);
        Ledgers.write(ledger, 0, 1_000);
        ledger.addEntry(Ledgers.payload(ledger.getId(), 1_000, LONGEST));
        Ledgers.write(ledger, 1_001, 10);
        ledger.close();

        LedgerHandle again = Ledgers.recover(reader, ledger.getId());
        Check.equal("last entry", 1_010L, again.getLastAddConfirmed());
        Ledgers.read(again, 0, 1_010);
        Ledgers.read(again, 500, 500);
        Check.fails("an entry past the end", BKException.BKReadException.class, () -> again.readEntries(1_011, 1_011));
        if (cluster.isV2()) {
            // Version 3 has no such request.
            batches(again, 1_010);
        }
    }

    private static void batches(LedgerHandle ledger, long last) throws Exception {
        long next = 0;
        int asked = 0;
        while (next <= last) {
            int count = Ledgers.compare(ledger.getId(), next, ledger.batchReadEntries(next, 100, 64 << 10));
            Check.that("a batch of 1 to 100 entries: " + count, count > 0 && count <= 100);
            next += count;
            asked++;
        }
        Check.that("batches of many entries: " + asked, asked < last / 4);
        // The client falls back to single reads when a bookie closes the connection on a batch read.
        Field fallback = LedgerHandle.class.getDeclaredField("notSupportBatch");
        fallback.setAccessible(true);
        Check.that("the bookie knows batch reads", !fallback.getBoolean(ledger));
    }

    /** Each bookie has two of three entries. */
    private static void striped(BookKeeper writer, BookKeeper reader) throws Exception {
        LedgerHandle ledger = writer.createLedger(3, 2, 2, Ledgers.DIGEST, Ledgers.PASSWORD);
        Ledgers.write(ledger, 0, 99);
        Ledgers.write(ledger, 99, 1);
        LedgerHandle look = Ledgers.look(reader, ledger.getId());
        Check.equal("confirmed by the last entry, wherever it is", 98L, look.readLastConfirmed());
        LedgerHandle recovered = Ledgers.recover(reader, ledger.getId());
        Check.equal("last entry of a striped ledger", 99L, recovered.getLastAddConfirmed());
        Ledgers.read(recovered, 0, 99);
    }
}
