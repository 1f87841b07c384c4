package magnetar;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.apache.bookkeeper.client.BKException;
import org.apache.bookkeeper.client.BookKeeper;
import org.apache.bookkeeper.client.LedgerHandle;

/** A writer's process vanishes with adds in flight: whoever opens the ledger finds all that it was told is safe. */
final class Recovery {
    /** Acknowledged before the writer is killed. */
    private static final long ENOUGH = 300;
    private static final int IN_FLIGHT = 32;

    private Recovery() {
    }

    static void run(Cluster cluster) throws Exception {
        List<String> command = new ArrayList<>();
        command.add(ProcessHandle.current().info().command().orElseThrow());
        command.addAll(ManagementFactory.getRuntimeMXBean().getInputArguments());
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), Main.class.getName(), "writer",
                cluster.metadata(), cluster.isV2() ? "v2" : "v3"));
        Process process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        long ledger;
        long acknowledged = -1;
        try (BufferedReader lines = new BufferedReader(new InputStreamReader(process.getInputStream()))) {
            ledger = Long.parseLong(lines.readLine());
            String line;
            while ((line = lines.readLine()) != null) {
                acknowledged = Long.parseLong(line);
                if (acknowledged >= ENOUGH) {
                    process.destroyForcibly();
                    break;
                }
            }
        }
        process.waitFor();
        Check.that("the writer was cut off while it wrote", acknowledged >= ENOUGH);

        // Two at once, and both must come to the same end.
        CompletableFuture<LedgerHandle> first = open(cluster.client(), ledger);
        CompletableFuture<LedgerHandle> second = open(cluster.client(), ledger);
        LedgerHandle recovered = either(first, second);
        long last = recovered.getLastAddConfirmed();
        Check.that("acknowledged up to " + acknowledged + ", recovered up to " + last, last >= acknowledged);
        Ledgers.read(recovered, 0, last);
        LedgerHandle again = Ledgers.recover(cluster.client(), ledger);
        Check.equal("the end stays", last, again.getLastAddConfirmed());
        Check.equal("the length stays", recovered.getLength(), again.getLength());
    }

    private static CompletableFuture<LedgerHandle> open(BookKeeper client, long ledger) {
        CompletableFuture<LedgerHandle> opened = new CompletableFuture<>();
        client.asyncOpenLedger(ledger, Ledgers.DIGEST, Ledgers.PASSWORD, (code, handle, context) -> {
            if (code == BKException.Code.OK) {
                opened.complete(handle);
            } else {
                opened.completeExceptionally(BKException.create(code));
            }
        }, null);
        return opened;
    }

    /** At least one recovery wins; the other may have lost the race for the metadata, but must not differ. */
    private static LedgerHandle either(CompletableFuture<LedgerHandle> first, CompletableFuture<LedgerHandle> second)
            throws Exception {
        LedgerHandle one = first.exceptionally(error -> null).get();
        LedgerHandle two = second.exceptionally(error -> null).get();
        if (one != null && two != null) {
            Check.equal("the end, recovered twice", one.getLastAddConfirmed(), two.getLastAddConfirmed());
        }
        return one != null ? one : Ledgers.wait(second);
    }

    /** The other process: prints the ledger, then each acknowledged entry, until it is killed. */
    static void write(Cluster cluster) throws Exception {
        LedgerHandle ledger = Ledgers.create(cluster.client());
        System.out.println(ledger.getId());
        CompletableFuture<?>[] window = new CompletableFuture<?>[IN_FLIGHT];
        for (long entry = 0; ; entry++) {
            int slot = (int) (entry % IN_FLIGHT);
            if (window[slot] != null) {
                System.out.println(Ledgers.wait(window[slot]));
                System.out.flush();
            }
            window[slot] = Ledgers.add(ledger, Ledgers.payload(ledger.getId(), entry, Ledgers.size(entry)));
        }
    }
}
