use super::*;

fn ordered() -> Dispatcher {
    Dispatcher::KeyShared(KeyShared::new(Routing::AutoSplit, false, Limits::default()))
}

fn draining(d: &Dispatcher) -> (usize, u64) {
    match d {
        Dispatcher::KeyShared(d) => d.draining(),
        _ => unreachable!("a Key_Shared dispatcher"),
    }
}

/// A key which consumer `id` owns among those joined.
fn key_of(d: &mut Dispatcher, id: u64, probe: u64) -> String {
    for n in 0.. {
        let key = format!("key-{n}");
        let got = give(d, keyed(probe, &key));
        d.acked(at(probe));
        if got == Some(id) {
            return key;
        }
    }
    unreachable!("some key belongs to every consumer")
}

#[test]
fn a_key_keeps_its_consumer_and_keys_spread() {
    let mut d = ordered();
    (1..4).for_each(|id| join(&mut d, id));
    let mut owners = std::collections::BTreeMap::new();
    for n in 0..150 {
        let key = format!("k{}", n % 50);
        let got = give(&mut d, keyed(n, &key)).unwrap();
        assert_eq!(*owners.entry(key).or_insert(got), got);
    }
    let used: std::collections::BTreeSet<_> = owners.values().collect();
    assert_eq!(used.len(), 3);
}

#[test]
fn a_moved_key_drains_before_its_new_owner_gets_it_and_other_keys_go_on() {
    let mut d = ordered();
    join(&mut d, 1);
    join(&mut d, 2);
    let moving = key_of(&mut d, 2, 1_000);
    let staying = key_of(&mut d, 1, 1_000);
    d.remove(ConsumerId(2), Duration::ZERO);
    assert_eq!(give(&mut d, keyed(0, &moving)), Some(1));
    assert_eq!(give(&mut d, keyed(1, &moving)), Some(1));
    join(&mut d, 2);
    assert_eq!(draining(&d), (1, 2));
    assert_eq!(d.offer(&keyed(2, &moving)), Offer::Held);
    assert_eq!(give(&mut d, keyed(3, &staying)), Some(1));
    d.acked(at(0));
    assert_eq!(d.want(), Want::New);
    d.acked(at(1));
    assert_eq!((d.want(), draining(&d)), (Want::Replay(vec![at(2)]), (0, 0)));
    // Still the first of its key: a later one must not overtake it.
    assert_eq!(d.offer(&keyed(4, &moving)), Offer::Held);
    assert_eq!(give(&mut d, keyed(2, &moving)), Some(2));
    assert_eq!(give(&mut d, keyed(4, &moving)), Some(2));
}

#[test]
fn a_key_that_returns_to_its_holder_is_not_blocked() {
    let mut d = ordered();
    join(&mut d, 1);
    join(&mut d, 2);
    let key = key_of(&mut d, 2, 1_000);
    d.remove(ConsumerId(2), Duration::ZERO);
    assert_eq!(give(&mut d, keyed(0, &key)), Some(1));
    join(&mut d, 2);
    assert_eq!(d.offer(&keyed(1, &key)), Offer::Held);
    d.remove(ConsumerId(2), Duration::ZERO);
    assert_eq!(d.want(), Want::Replay(vec![at(1)]));
    assert_eq!(give(&mut d, keyed(1, &key)), Some(1));
}

#[test]
fn keys_of_a_departed_holder_are_free_at_once() {
    let mut d = ordered();
    join(&mut d, 1);
    give(&mut d, keyed(0, "k"));
    join(&mut d, 2);
    d.remove(ConsumerId(1), Duration::ZERO);
    assert_eq!(d.want(), Want::Replay(vec![at(0)]));
    assert_eq!(give(&mut d, keyed(0, "k")), Some(2));
}

#[test]
fn a_stuck_consumer_holds_back_its_own_keys_only_and_look_ahead_ends() {
    let limits = Limits { look_ahead_per_consumer: 3, ..Limits::default() };
    let mut d = Dispatcher::KeyShared(KeyShared::new(Routing::AutoSplit, false, limits));
    join(&mut d, 1);
    join(&mut d, 2);
    let (stuck, free) = (key_of(&mut d, 1, 1_000), key_of(&mut d, 2, 1_000));
    d.set_writable(ConsumerId(1), false);
    for n in 0..6 {
        assert_eq!(d.offer(&keyed(n, &stuck)), Offer::Held);
    }
    assert_eq!(d.want(), Want::Nothing);
    assert_eq!(d.offer(&keyed(6, &free)), Offer::Refused);
    d.set_writable(ConsumerId(1), true);
    assert_eq!(d.want(), Want::Replay((0..6).map(at).collect()));
}

#[test]
fn out_of_order_delivery_does_not_drain() {
    let mut d = Dispatcher::KeyShared(KeyShared::new(Routing::AutoSplit, true, Limits::default()));
    join(&mut d, 1);
    join(&mut d, 2);
    let key = key_of(&mut d, 2, 1_000);
    d.remove(ConsumerId(2), Duration::ZERO);
    give(&mut d, keyed(0, &key));
    join(&mut d, 2);
    assert_eq!(give(&mut d, keyed(1, &key)), Some(2));
}

#[test]
fn consumers_of_one_name_both_get_work() {
    let mut d = ordered();
    for id in [1, 2] {
        d.add(spec(id, "same"), Duration::ZERO).unwrap();
        d.flow(ConsumerId(id), 1_000);
    }
    let got: Vec<_> = (0..100).map(|n| give(&mut d, keyed(n, &format!("k{n}"))).unwrap()).collect();
    assert!(got.contains(&1) && got.contains(&2));
}

#[test]
fn sticky_ranges_decide_exactly_and_ownerless_keys_wait() {
    let mut d = Dispatcher::KeyShared(KeyShared::new(Routing::Sticky, false, Limits::default()));
    let half = |id, ranges: &[(u32, u32)]| ConsumerSpec { ranges: ranges.to_vec(), ..spec(id, "c") };
    d.add(half(1, &[(0, 99), (200, 299)]), Duration::ZERO).unwrap();
    d.flow(ConsumerId(1), 100);
    let slot = |n, hash| EntryInfo { tag: Some(hash), ..entry(n) };
    assert_eq!(give(&mut d, slot(0, 99)), Some(1));
    assert_eq!(give(&mut d, slot(1, STICKY_RANGE + 200)), Some(1));
    assert_eq!(d.offer(&slot(2, 100)), Offer::Held);
    d.add(half(2, &[(100, 199)]), Duration::ZERO).unwrap();
    d.flow(ConsumerId(2), 100);
    assert_eq!(d.want(), Want::Replay(vec![at(2)]));
    assert_eq!(give(&mut d, slot(2, 100)), Some(2));
    for bad in
        [&[(50, 60)][..], &[(299, 299)], &[(10, 5)], &[(0, STICKY_RANGE)], &[(400, 500), (450, 460)], &[]]
    {
        let refused = d.add(half(3, bad), Duration::ZERO);
        assert!(matches!(refused, Err(JoinError::Ranges(_))), "{bad:?}");
    }
}
