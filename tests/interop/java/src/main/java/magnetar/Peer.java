package magnetar;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.HashMap;
import java.util.Map;
import org.apache.bookkeeper.client.BKException;
import org.apache.bookkeeper.client.BookKeeper;
import org.apache.bookkeeper.client.LedgerHandle;

/**
 * {@code Main peer METADATA-URI VERSION}: a client beside another one on the same bookies and metadata. Does what standard
 * input says, a line each, and answers with one line.
 * <ul>
 * <li>{@code write COUNT}: a closed ledger with so many entries; answers {@code ledger ID}
 * <li>{@code abandon COUNT}: the same, but the ledger stays open, as when its writer died
 * <li>{@code append ID}: one more entry to a ledger abandoned here; answers {@code fenced}, or {@code appended}
 * <li>{@code look ID}: what can be read of a ledger without taking it over; answers {@code last ENTRY}
 * <li>{@code read ID}: takes the ledger over, if it is open, and reads and compares it; answers {@code last ENTRY}
 * </ul>
 */
final class Peer {
    private final BookKeeper client;
    private final Map<Long, LedgerHandle> abandoned = new HashMap<>();

    private Peer(BookKeeper client) {
        this.client = client;
    }

    static void run(Cluster cluster) throws Exception {
        Peer peer = new Peer(cluster.client(conf -> conf.setAddEntryTimeout(20).setReadEntryTimeout(20)));
        System.out.println("ready");
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        String line;
        while ((line = commands.readLine()) != null) {
            String[] words = line.split(" ");
            System.out.println(peer.answer(words[0], Long.parseLong(words[1])));
            System.out.flush();
        }
    }

    private String answer(String command, long number) throws Exception {
        return switch (command) {
            case "write" -> {
                LedgerHandle ledger = written(number);
                ledger.close();
                yield "ledger " + ledger.getId();
            }
            case "abandon" -> {
                LedgerHandle ledger = written(number);
                abandoned.put(ledger.getId(), ledger);
                yield "ledger " + ledger.getId();
            }
            case "append" -> append(abandoned.get(number));
            case "look" -> {
                LedgerHandle ledger = Ledgers.look(client, number);
                long last = ledger.readLastConfirmed();
                Ledgers.read(ledger, 0, last);
                yield "last " + last;
            }
            case "read" -> {
                LedgerHandle ledger = Ledgers.recover(client, number);
                long last = ledger.getLastAddConfirmed();
                Ledgers.read(ledger, 0, last);
                yield "last " + last;
            }
            default -> throw new IllegalArgumentException(command);
        };
    }

    private LedgerHandle written(long count) throws Exception {
        LedgerHandle ledger = Ledgers.create(client);
        Ledgers.write(ledger, 0, (int) count);
        return ledger;
    }

    private static String append(LedgerHandle ledger) throws Exception {
        try {
            ledger.addEntry(new byte[1]);
            return "appended";
        } catch (BKException.BKLedgerFencedException | BKException.BKLedgerClosedException
                | BKException.BKNotEnoughBookiesException end) {
            // A third bookie that lags behind the two that confirmed is fenced before the last adds reach it. Its refusal of
            // those makes the client look for another bookie at the next add: there is none, or the metadata say closed.
            return "fenced";
        }
    }
}
