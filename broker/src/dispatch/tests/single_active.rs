use super::*;
use crate::dispatch::single_active::FAILOVER_DELAY;

fn notify(id: u64, active: bool) -> Action {
    Action::Notify { consumer: ConsumerId(id), active }
}

#[test]
fn exclusive_refuses_a_second_consumer_and_names_the_first() {
    let mut d = SingleActive::new(ActiveRule::Exclusive);
    assert_eq!(d.add(spec(1, "a"), Duration::ZERO), Ok(vec![Action::Rewind]));
    assert_eq!(d.add(spec(2, "b"), Duration::ZERO), Err(JoinError::Busy { holder: ConsumerId(1) }));
    d.remove(ConsumerId(1), Duration::ZERO);
    assert_eq!(d.add(spec(2, "b"), Duration::ZERO), Ok(vec![Action::Rewind]));
}

#[test]
fn messages_flow_as_permits_allow() {
    let mut d = Dispatcher::SingleActive(SingleActive::new(ActiveRule::Exclusive));
    d.add(spec(1, "a"), Duration::ZERO).unwrap();
    assert_eq!((d.want(), d.offer(&entry(0))), (Want::Nothing, Offer::Refused));
    d.flow(ConsumerId(1), 2);
    assert_eq!(give(&mut d, EntryInfo { messages: 5, ..entry(0) }), Some(1));
    assert_eq!((d.want(), d.permits(ConsumerId(1))), (Want::Nothing, -3));
}

#[test]
fn entries_may_go_out_together_unless_some_of_them_were_given_back() {
    let mut d = Dispatcher::SingleActive(SingleActive::new(ActiveRule::Exclusive));
    d.add(spec(1, "a"), Duration::ZERO).unwrap();
    assert_eq!(d.stream_from(at(0)), None, "no permits");
    d.flow(ConsumerId(1), 5);
    assert_eq!(d.stream_from(at(0)), Some((ConsumerId(1), 5)));
    d.streamed(7);
    assert_eq!((d.stream_from(at(0)), d.permits(ConsumerId(1))), (None, -2));
    d.flow(ConsumerId(1), 10);
    d.redeliver(ConsumerId(1), Some(&[at(4)]));
    assert_eq!(d.stream_from(at(4)), None, "its count must be told");
    assert_eq!(d.stream_from(at(5)), Some((ConsumerId(1), 8)));
    d.acked(at(4));
    assert_eq!(d.stream_from(at(0)), Some((ConsumerId(1), 8)));
    d.set_writable(ConsumerId(1), false);
    assert_eq!(d.stream_from(at(0)), None, "its connection takes no more");
    let mut shared = Dispatcher::Shared(Shared::new(Limits::default()));
    shared.add(spec(1, "a"), Duration::ZERO).unwrap();
    shared.flow(ConsumerId(1), 5);
    assert_eq!(shared.stream_from(at(0)), None, "entries are tracked");
}

#[test]
fn failover_by_partition_goes_around_the_names_of_the_best_priority() {
    for (partition, expected) in [(0, 2), (1, 1), (2, 2), (3, 1)] {
        let mut d = SingleActive::new(ActiveRule::Partition(partition));
        d.add(ConsumerSpec { priority: 1, ..spec(3, "a") }, Duration::ZERO).unwrap();
        d.add(spec(1, "c"), Duration::ZERO).unwrap();
        d.add(spec(2, "b"), Duration::ZERO).unwrap();
        assert_eq!(d.active(), Some(ConsumerId(expected)), "partition {partition}");
    }
}

#[test]
fn failover_without_partitions_does_not_depend_on_the_order_of_joining() {
    let choose = |order: [u64; 3]| {
        let mut d = SingleActive::new(ActiveRule::Topic("persistent://public/default/t".into()));
        for id in order {
            d.add(spec(id, &format!("name-{id}")), Duration::ZERO).unwrap();
        }
        d.active()
    };
    assert_eq!(choose([1, 2, 3]), choose([3, 1, 2]));
    assert_eq!(choose([1, 2, 3]), choose([2, 3, 1]));
}

#[test]
fn a_takeover_from_a_connected_consumer_waits_for_its_last_acknowledgements() {
    let mut d = SingleActive::new(ActiveRule::Partition(0));
    assert_eq!(d.add(spec(1, "b"), Duration::ZERO), Ok(vec![notify(1, true), Action::Rewind]));
    let actions = d.add(spec(2, "a"), Duration::ZERO).unwrap();
    assert_eq!(actions, [notify(1, false), notify(2, true), Action::Rewind]);
    let mut d = Dispatcher::SingleActive(d);
    d.flow(ConsumerId(2), 10);
    assert_eq!((d.want(), d.deadline()), (Want::Nothing, Some(FAILOVER_DELAY)));
    assert!(d.on_timer(FAILOVER_DELAY / 2).is_empty());
    assert_eq!(d.on_timer(FAILOVER_DELAY), [Action::Rewind]);
    assert_eq!((give(&mut d, entry(0)), d.deadline()), (Some(2), None));
}

#[test]
fn when_the_active_consumer_leaves_the_next_one_goes_on_at_once() {
    let mut d = SingleActive::new(ActiveRule::Partition(0));
    d.add(spec(1, "a"), Duration::ZERO).unwrap();
    assert_eq!(d.add(spec(2, "b"), Duration::ZERO), Ok(vec![notify(2, false)]));
    assert_eq!(d.remove(ConsumerId(1), Duration::ZERO), [notify(2, true), Action::Rewind]);
    let mut d = Dispatcher::SingleActive(d);
    d.flow(ConsumerId(2), 1);
    assert_eq!(d.want(), Want::New);
}

#[test]
fn only_the_active_consumer_can_ask_for_redelivery() {
    let mut d = SingleActive::new(ActiveRule::Partition(0));
    d.add(spec(1, "a"), Duration::ZERO).unwrap();
    d.add(spec(2, "b"), Duration::ZERO).unwrap();
    assert_eq!((d.redeliver(ConsumerId(1)), d.redeliver(ConsumerId(2))), (vec![Action::Rewind], vec![]));
}
