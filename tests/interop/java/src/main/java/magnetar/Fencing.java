package magnetar;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import org.apache.bookkeeper.client.BKException;
import org.apache.bookkeeper.client.BookKeeper;
import org.apache.bookkeeper.client.LedgerHandle;
import org.apache.bookkeeper.client.LedgerMetadataBuilder;
import org.apache.bookkeeper.client.api.LedgerMetadata;
import org.apache.bookkeeper.meta.LedgerManager;
import org.apache.bookkeeper.versioning.Versioned;

/** Who opens a ledger with recovery ends its writer, for ever; who has another key gets nowhere. */
final class Fencing {
    private Fencing() {
    }

    static void run(Cluster cluster) throws Exception {
        BookKeeper writer = cluster.client();
        BookKeeper owner = cluster.client();
        whileWriting(writer, owner);
        overRestarts(cluster, writer, owner);
        wrongKey(writer, owner);
    }

    /** Recovery comes between adds in flight: each was either acknowledged and recovered, or refused. */
    private static void whileWriting(BookKeeper writer, BookKeeper owner) throws Exception {
        LedgerHandle ledger = Ledgers.create(writer);
        Ledgers.write(ledger, 0, 100);
        CompletableFuture<LedgerHandle> opened = new CompletableFuture<>();
        owner.asyncOpenLedger(ledger.getId(), Ledgers.DIGEST, Ledgers.PASSWORD, (code, handle, context) -> {
            if (code == BKException.Code.OK) {
                opened.complete(handle);
            } else {
                opened.completeExceptionally(BKException.create(code));
            }
        }, null);
        List<CompletableFuture<Long>> added = new ArrayList<>();
        long next = 100;
        while (added.isEmpty() || !added.get(added.size() - 1).isCompletedExceptionally()) {
            added.add(Ledgers.add(ledger, Ledgers.payload(ledger.getId(), next, Ledgers.size(next))));
            next++;
            if (added.size() % 64 == 0) {
                settle(added.get(added.size() - 64));
            }
        }
        LedgerHandle recovered = Ledgers.wait(opened);
        int acknowledged = 0;
        while (settle(added.get(acknowledged)) == null) {
            acknowledged++;
        }
        Exception refused = settle(added.get(acknowledged));
        // The client closes its handle for the first refusal, but a turn later: when the other two bookies have confirmed
        // all that was in flight by then, no add is left to fail for the fence, and the next one meets the closed handle.
        Check.that("the writer is told that it is at its end: " + refused, isEnd(refused));
        long last = recovered.getLastAddConfirmed();
        Check.that("all that was acknowledged is there: 100 and " + acknowledged + " up to " + last,
                last >= 99 + acknowledged);
        Ledgers.read(recovered, 0, last);
        Check.equal("end of the ledger for the next reader", last,
                Ledgers.recover(writer, ledger.getId()).getLastAddConfirmed());
    }

    /** What an add ended with, null for its acknowledgement. */
    private static Exception settle(CompletableFuture<Long> add) {
        try {
            Ledgers.wait(add);
            return null;
        } catch (ExecutionException failed) {
            return (Exception) failed.getCause();
        } catch (Exception error) {
            throw new AssertionError("an add was never answered", error);
        }
    }

    /** The bookies lose power after the fence: their fence must not be gone with it. */
    private static void overRestarts(Cluster cluster, BookKeeper writer, BookKeeper owner) throws Exception {
        LedgerHandle ledger = Ledgers.create(writer);
        Ledgers.write(ledger, 0, 50);
        LedgerHandle recovered = Ledgers.recover(owner, ledger.getId());
        Check.equal("last entry", 49L, recovered.getLastAddConfirmed());
        cluster.kill(Ledgers.lastEnsemble(ledger));
        cluster.restart(Ledgers.lastEnsemble(ledger));
        Ledgers.read(Ledgers.recover(cluster.client(), ledger.getId()), 0, 49);
        // The old writer's client connects again and finds out: from the bookies, or, when a connection breaks off under
        // the add, from the metadata in which it wants to replace that bookie.
        BKException refused = Check.fails("an add after restarts", BKException.class,
                () -> ledger.addEntry(new byte[10]));
        Check.that("the writer is told that it is at its end: " + refused, isEnd(refused));
    }

    /** A writer whose ledger another one has recovered is told one of these. */
    private static boolean isEnd(Exception refused) {
        return refused instanceof BKException.BKLedgerFencedException
                || refused instanceof BKException.BKLedgerClosedException;
    }

    /** The client compares the password with the metadata, so the metadata are forged for it to reach the bookies. */
    private static void wrongKey(BookKeeper writer, BookKeeper owner) throws Exception {
        // All three confirm: one that had not seen the ledger yet would take the other key for its own.
        LedgerHandle ledger = writer.createLedger(3, 3, 3, Ledgers.DIGEST, Ledgers.PASSWORD);
        Ledgers.write(ledger, 0, 10);
        LedgerManager manager = owner.getLedgerManager();
        Versioned<LedgerMetadata> real = Ledgers.wait(manager.readLedgerMetadata(ledger.getId()));
        byte[] other = "other".getBytes();
        LedgerMetadata forged = LedgerMetadataBuilder.from(real.getValue()).withPassword(other).build();
        Ledgers.wait(manager.writeLedgerMetadata(ledger.getId(), forged, real.getVersion()));
        Check.fails("recovery with another key", BKException.BKUnauthorizedAccessException.class,
                () -> owner.openLedger(ledger.getId(), Ledgers.DIGEST, other));
        // The refused fence did nothing to the writer.
        Ledgers.write(ledger, 10, 10);
    }
}
