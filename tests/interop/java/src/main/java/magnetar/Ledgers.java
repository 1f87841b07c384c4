package magnetar;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Enumeration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.bookkeeper.client.BKException;
import org.apache.bookkeeper.client.BookKeeper;
import org.apache.bookkeeper.client.BookKeeper.DigestType;
import org.apache.bookkeeper.client.LedgerEntry;
import org.apache.bookkeeper.client.LedgerHandle;
import org.apache.bookkeeper.net.BookieId;

/** Entries whose bytes follow from the ledger's and their own id, so that a reader knows what it must get. */
final class Ledgers {
    static final byte[] PASSWORD = "secret".getBytes();
    static final DigestType DIGEST = DigestType.CRC32C;

    private static final long LIMIT_SECONDS = 60;
    private static final int[] SIZES = {0, 1, 7, 100, 1_000, 1_024, 4_096, 10_000};

    private Ledgers() {
    }

    static LedgerHandle create(BookKeeper client) throws Exception {
        return client.createLedger(3, 3, 2, DIGEST, PASSWORD);
    }

    static LedgerHandle recover(BookKeeper client, long ledger) throws Exception {
        return client.openLedger(ledger, DIGEST, PASSWORD);
    }

    static LedgerHandle look(BookKeeper client, long ledger) throws Exception {
        return client.openLedgerNoRecovery(ledger, DIGEST, PASSWORD);
    }

    /** Sizes from nothing to some pages, in turn. */
    static int size(long entry) {
        return SIZES[(int) (entry % SIZES.length)];
    }

    static byte[] payload(long ledger, long entry, int size) {
        byte[] bytes = new byte[size];
        long state = (ledger << 32 | entry) * 0x9E3779B97F4A7C15L + 1;
        for (int i = 0; i < size; i++) {
            if (i % 8 == 0) {
                state ^= state << 13;
                state ^= state >>> 7;
                state ^= state << 17;
            }
            bytes[i] = (byte) (state >>> (i % 8 * 8));
        }
        return bytes;
    }

    /** Sends the next entry; the future is its id, or fails with what the client said. */
    static CompletableFuture<Long> add(LedgerHandle ledger, byte[] payload) {
        CompletableFuture<Long> added = new CompletableFuture<>();
        ledger.asyncAddEntry(payload, (code, handle, entry, context) -> {
            if (code == BKException.Code.OK) {
                added.complete(entry);
            } else {
                added.completeExceptionally(BKException.create(code));
            }
        }, null);
        return added;
    }

    /** Adds {@code count} entries from {@code first} on, all in flight at once, and waits for the last. */
    static void write(LedgerHandle ledger, long first, int count) throws Exception {
        List<CompletableFuture<Long>> added = new ArrayList<>();
        for (long entry = first; entry < first + count; entry++) {
            added.add(add(ledger, payload(ledger.getId(), entry, size(entry))));
        }
        for (int i = 0; i < count; i++) {
            Check.equal("id of an added entry", first + i, wait(added.get(i)));
        }
    }

    static <T> T wait(CompletableFuture<T> future) throws Exception {
        return future.get(LIMIT_SECONDS, TimeUnit.SECONDS);
    }

    /** All of {@code entries} are those from {@code first} on, with their bytes; returns how many there were. */
    static int compare(long ledger, long first, Enumeration<LedgerEntry> entries) {
        int count = 0;
        while (entries.hasMoreElements()) {
            LedgerEntry entry = entries.nextElement();
            long expected = first + count;
            Check.equal("ledger of an entry", ledger, entry.getLedgerId());
            Check.equal("id of an entry", expected, entry.getEntryId());
            byte[] bytes = entry.getEntry();
            boolean same = Arrays.equals(payload(ledger, expected, bytes.length), bytes)
                    && (bytes.length == size(expected) || bytes.length > RoundTrip.LONG);
            Check.that("bytes of entry " + ledger + ":" + expected + ", " + bytes.length + " long", same);
            count++;
        }
        return count;
    }

    /** Reads from {@code first} to {@code last}, both included, and compares every byte. */
    static void read(LedgerHandle ledger, long first, long last) throws Exception {
        int count = compare(ledger.getId(), first, ledger.readEntries(first, last));
        Check.equal("entries read", last - first + 1, (long) count);
    }

    static List<BookieId> lastEnsemble(LedgerHandle ledger) {
        return ledger.getLedgerMetadata().getAllEnsembles().lastEntry().getValue();
    }
}
