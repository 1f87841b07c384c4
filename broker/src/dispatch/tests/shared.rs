use super::*;

fn shared() -> Dispatcher {
    Dispatcher::Shared(Shared::new(Limits { round_robin_entries: 2, ..Limits::default() }))
}

#[test]
fn consumers_take_turns_of_some_entries() {
    let mut d = shared();
    join(&mut d, 1);
    join(&mut d, 2);
    let got: Vec<_> = (0..8).map(|n| give(&mut d, entry(n)).unwrap()).collect();
    assert_eq!(got, [1, 1, 2, 2, 1, 1, 2, 2]);
}

#[test]
fn a_lower_priority_number_is_served_first() {
    let mut d = shared();
    d.add(ConsumerSpec { priority: 5, ..spec(1, "late") }, Duration::ZERO).unwrap();
    join(&mut d, 2);
    d.flow(ConsumerId(1), 10);
    d.flow(ConsumerId(2), 0);
    assert!((0..100).all(|n| give(&mut d, entry(n)) == Some(2)));
    assert_eq!(give(&mut d, entry(100)), Some(1));
}

#[test]
fn nobody_is_sent_more_than_one_batch_beyond_its_permits() {
    let mut d = shared();
    d.add(spec(1, "a"), Duration::ZERO).unwrap();
    assert_eq!(d.want(), Want::Nothing);
    d.flow(ConsumerId(1), 5);
    let batch = |n| EntryInfo { messages: 4, ..entry(n) };
    assert_eq!(give(&mut d, batch(0)), Some(1));
    assert_eq!(give(&mut d, batch(1)), Some(1));
    assert_eq!(d.offer(&batch(2)), Offer::Refused);
    assert_eq!(d.permits(ConsumerId(1)), -3);
    d.flow(ConsumerId(1), 3);
    assert_eq!(d.want(), Want::Nothing);
    d.flow(ConsumerId(1), 1);
    assert_eq!(d.want(), Want::New);
}

#[test]
fn what_a_departed_consumer_held_goes_to_the_others_first_and_counts_as_no_redelivery() {
    let mut d = shared();
    join(&mut d, 1);
    for n in 0..3 {
        give(&mut d, entry(n));
    }
    d.acked(at(1));
    join(&mut d, 2);
    d.remove(ConsumerId(1), Duration::ZERO);
    assert_eq!(d.want(), Want::Replay(vec![at(0), at(2)]));
    assert_eq!(d.offer(&entry(0)), Offer::Send { consumer: ConsumerId(2), redelivery_count: 0 });
    assert_eq!(d.unacked_total(), (1, false));
}

#[test]
fn redelivery_is_counted_per_entry_and_only_for_its_holder() {
    let mut d = shared();
    join(&mut d, 1);
    join(&mut d, 2);
    for n in 0..3 {
        give(&mut d, entry(n));
    }
    // Entries 0 and 1 are with consumer 1, entry 2 with consumer 2.
    d.redeliver(ConsumerId(1), Some(&[at(1), at(2), at(9)]));
    assert_eq!(d.want(), Want::Replay(vec![at(1)]));
    for count in 1..4 {
        let Offer::Send { consumer, redelivery_count } = d.offer(&entry(1)) else { panic!("not sent") };
        assert_eq!(redelivery_count, count);
        d.redeliver(consumer, None);
    }
}

#[test]
fn a_consumer_with_too_many_unacknowledged_messages_waits_until_half_are_acknowledged() {
    let limits = Limits { unacked_per_consumer: 4, ..Limits::default() };
    let mut d = Dispatcher::Shared(Shared::new(limits));
    join(&mut d, 1);
    for n in 0..4 {
        assert_eq!(give(&mut d, entry(n)), Some(1));
    }
    assert_eq!((d.want(), d.unacked(ConsumerId(1))), (Want::Nothing, (4, true)));
    d.acked(at(0));
    d.acked(at(1));
    assert_eq!(d.want(), Want::Nothing);
    d.acked_partially(at(2), 1);
    assert_eq!((d.want(), d.unacked(ConsumerId(1))), (Want::New, (1, false)));
}

#[test]
fn the_subscription_waits_when_all_its_consumers_together_hold_too_much() {
    let limits = Limits { unacked_per_subscription: 4, round_robin_entries: 1, ..Limits::default() };
    let mut d = Dispatcher::Shared(Shared::new(limits));
    join(&mut d, 1);
    join(&mut d, 2);
    for n in 0..4 {
        give(&mut d, entry(n));
    }
    assert_eq!((d.want(), d.unacked_total()), (Want::Nothing, (4, true)));
    d.acked_up_to(at(2));
    assert_eq!((d.want(), d.unacked_total()), (Want::New, (1, false)));
}

#[test]
fn all_chunks_of_a_message_go_to_one_consumer_even_if_they_have_to_wait() {
    let mut d = Dispatcher::Shared(Shared::new(Limits { round_robin_entries: 1, ..Limits::default() }));
    d.add(spec(1, "a"), Duration::ZERO).unwrap();
    join(&mut d, 2);
    d.flow(ConsumerId(1), 1);
    let chunk = |n, last_chunk| EntryInfo { tag: Some(7), last_chunk, ..entry(n) };
    assert_eq!(give(&mut d, chunk(0, false)), Some(1));
    assert_eq!(d.offer(&chunk(1, false)), Offer::Held);
    assert_eq!(give(&mut d, entry(2)), Some(2));
    assert_eq!(d.offer(&chunk(3, true)), Offer::Held);
    d.flow(ConsumerId(1), 10);
    assert_eq!(d.want(), Want::Replay(vec![at(1), at(3)]));
    assert_eq!(give(&mut d, chunk(1, false)), Some(1));
    assert_eq!(give(&mut d, chunk(3, true)), Some(1));
    assert_eq!(d.want(), Want::New);
}

#[test]
fn a_slow_connection_is_left_out_until_it_is_writable() {
    let mut d = shared();
    join(&mut d, 1);
    join(&mut d, 2);
    d.set_writable(ConsumerId(1), false);
    assert!((0..4).all(|n| give(&mut d, entry(n)) == Some(2)));
    d.set_writable(ConsumerId(2), false);
    assert_eq!(d.want(), Want::Nothing);
    d.set_writable(ConsumerId(1), true);
    assert_eq!(give(&mut d, entry(4)), Some(1));
}

#[test]
fn messages_whose_chunks_never_end_do_not_keep_others_from_staying_together() {
    let limits = Limits { round_robin_entries: 1, unacked_per_consumer: u32::MAX, ..Limits::default() };
    let mut d = Dispatcher::Shared(Shared::new(Limits { unacked_per_subscription: u32::MAX, ..limits }));
    join(&mut d, 1);
    join(&mut d, 2);
    let chunk = |n: u64, tag| EntryInfo { tag: Some(tag), ..entry(n) };
    for n in 0..super::super::shared::CHUNKED_MAX as u64 {
        d.flow(ConsumerId(1 + n % 2), 1);
        assert!(give(&mut d, chunk(n, n as u32)).is_some());
        d.acked(at(n));
    }
    let first = give(&mut d, chunk(20_000, u32::MAX));
    assert!((20_001..20_009).all(|n| give(&mut d, chunk(n, u32::MAX)) == first));
}
