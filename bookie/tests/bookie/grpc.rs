//! The gRPC port: health, reflection and the control service, through generated clients.

use std::collections::BTreeSet;

use magnetar_bookie::control_api::bookie_control_client::BookieControlClient;
use magnetar_bookie::control_api::{
    DrainRequest, ExplainRequest, GetInfoRequest, GetLedgerRequest, Ledger, ListDamagedRequest,
    ListLedgersRequest, ListLogsRequest, SetReadOnlyRequest, State, TriggerGcRequest,
};
use magnetar_bookie::{Bookie, Config};
use magnetar_proto::bookkeeper;
use magnetar_proto::bookkeeper::v2::Response;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::support::{Client, World, add, fence, read};

const SERVICE: &str = "magnetar.bookie.control.v1.BookieControl";

async fn start(world: &World) -> (Bookie, Channel) {
    let config = Config { grpc: Some("127.0.0.1:0".parse().unwrap()), ..world.config() };
    let bookie = world.start_with(config).await.unwrap();
    let address = bookie.grpc_addr().expect("gRPC is served");
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    (bookie, channel)
}

#[tokio::test]
async fn the_bookie_tells_who_and_how_it_is() {
    let world = World::new();
    let (bookie, channel) = start(&world).await;
    let mut client = Client::connect(&bookie).await;
    for entry in 0..3 {
        client.v2(add(5, entry)).await;
    }
    let info = BookieControlClient::new(channel).get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((&*info.bookie_id, info.state()), ("bookie-1", State::Writable));
    assert_eq!(info.address, bookie.local_addr().to_string());
    assert_eq!((info.ledgers, info.entries, info.logs), (1, 3, 0));
    let dirs: Vec<_> = info.ledger_dirs.iter().map(|dir| (&*dir.path, dir.writable)).collect();
    assert_eq!((&*info.journal_dir, dirs), ("/journal", vec![("/ledgers", true)]));
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn every_ledger_is_on_one_page_and_a_fenced_one_says_so() {
    let world = World::new();
    let (bookie, channel) = start(&world).await;
    let mut client = Client::connect(&bookie).await;
    for ledger in 0..25 {
        client.v2(add(ledger, 0)).await;
        client.v2(add(ledger, 1)).await;
    }
    client.v2(fence(7, None, Some([1; 20]))).await;

    let mut control = BookieControlClient::new(channel);
    let (mut seen, mut token, mut pages) = (BTreeSet::new(), String::new(), 0);
    loop {
        let request = ListLedgersRequest { page_size: 10, page_token: token };
        let page = control.list_ledgers(request).await.unwrap().into_inner();
        assert!(page.ledgers.len() <= 10);
        for ledger in page.ledgers {
            assert!(seen.insert(ledger.ledger_id), "{ledger:?} twice");
        }
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((seen, pages), ((0..25).collect(), 3));
    let known = async |control: &mut BookieControlClient<Channel>, ledger_id| {
        control.get_ledger(GetLedgerRequest { ledger_id }).await.map(|answer| answer.into_inner().ledger)
    };
    let ledger = known(&mut control, 7).await.unwrap().unwrap();
    assert!(ledger.fenced && !ledger.deleted);
    assert_eq!((ledger.last_entry, ledger.last_add_confirmed), (Some(1), Some(0)));
    let missing = known(&mut control, 99).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert!(missing.message().contains("metadata names the bookies"), "{missing}");
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn logs_are_listed_with_their_contents() {
    let world = World::new();
    for round in 0..3 {
        let (bookie, _) = start(&world).await;
        Client::connect(&bookie).await.v2(add(1, round)).await;
        bookie.shutdown().await.unwrap();
    }
    let (bookie, channel) = start(&world).await;
    let mut control = BookieControlClient::new(channel);
    let request = ListLogsRequest { page_size: 2, page_token: String::new() };
    let first = control.list_logs(request).await.unwrap().into_inner();
    let request = ListLogsRequest { page_size: 2, page_token: first.next_page_token };
    let last = control.list_logs(request).await.unwrap().into_inner();
    assert_eq!((first.logs.len(), last.logs.len(), &*last.next_page_token), (2, 1, ""));
    let log = &last.logs[0];
    assert_eq!((&*log.dir, log.entries, log.damaged), ("/ledgers", Some(1), false));
    assert_eq!(log.live_entries, Some(1));
    let path = format!("/ledgers/{:016x}.elog", log.log_id);
    assert_eq!(log.bytes, world.storage.read(path.as_ref()).unwrap().len() as u64);
    let ledger = control.get_ledger(GetLedgerRequest { ledger_id: 1 }).await.unwrap().into_inner().ledger;
    assert!(matches!(ledger, Some(Ledger { last_entry: Some(2), runs: 3, .. })), "{ledger:?}");
    let live: Option<u64> = first.logs.iter().chain(&last.logs).map(|log| log.live_bytes).sum();
    assert_eq!(live, ledger.map(|ledger| ledger.live_bytes));
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn pages_that_cannot_be_are_refused_with_advice() {
    let world = World::new();
    let (bookie, channel) = start(&world).await;
    let mut control = BookieControlClient::new(channel);
    let request = ListLedgersRequest { page_size: 10_001, page_token: String::new() };
    let refused = control.list_ledgers(request).await.unwrap_err();
    assert!(
        refused.code() == Code::InvalidArgument && refused.message().contains("at most 10000"),
        "{refused}"
    );
    let request = ListLogsRequest { page_size: 0, page_token: "tomorrow".into() };
    let refused = control.list_logs(request).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("begin anew"), "{refused}");
    let request = ListLogsRequest { page_size: 0, page_token: "9".repeat(1 << 20) };
    assert!(control.list_logs(request).await.is_err(), "longer than any request");
    bookie.shutdown().await.unwrap();
}

async fn state(control: &mut BookieControlClient<Channel>) -> State {
    control.get_info(GetInfoRequest {}).await.unwrap().into_inner().state()
}

fn code(response: Response) -> bookkeeper::Code {
    match response {
        Response::Add { code, .. } | Response::Read { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_wish_to_be_read_only_holds_until_it_is_taken_back_also_over_a_restart() {
    let world = World::new();
    let (bookie, channel) = start(&world).await;
    let mut control = BookieControlClient::new(channel);
    let mut client = Client::connect(&bookie).await;
    assert_eq!(code(client.v2(add(1, 0)).await), bookkeeper::Code::Ok);
    let answer = control.set_read_only(SetReadOnlyRequest { read_only: true }).await.unwrap().into_inner();
    assert_eq!((answer.read_only, &*answer.reasons), (true, &["an operator's wish".to_owned()][..]));
    assert_eq!(code(client.v2(add(1, 1)).await), bookkeeper::Code::ReadOnly);
    bookie.shutdown().await.unwrap();

    let (bookie, channel) = start(&world).await;
    let mut control = BookieControlClient::new(channel);
    let mut client = Client::connect(&bookie).await;
    assert_eq!(state(&mut control).await, State::ReadOnly);
    assert_eq!(code(client.v2(add(1, 1)).await), bookkeeper::Code::ReadOnly);
    assert_eq!(code(client.v2(read(1, Some(0))).await), bookkeeper::Code::Ok);
    let answer = control.set_read_only(SetReadOnlyRequest { read_only: false }).await.unwrap().into_inner();
    assert!(!answer.read_only && answer.reasons.is_empty());
    assert_eq!(code(client.v2(add(1, 1)).await), bookkeeper::Code::Ok);
    bookie.shutdown().await.unwrap();

    let (bookie, channel) = start(&world).await;
    assert_eq!(state(&mut BookieControlClient::new(channel)).await, State::Writable);
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_wish_that_cannot_be_recorded_says_so_and_the_bookie_is_read_only() {
    let world = World::new();
    let (bookie, channel) = start(&world).await;
    world.storage.fail_syncs("/journal".as_ref());
    let mut control = BookieControlClient::new(channel);
    let refused = control.set_read_only(SetReadOnlyRequest { read_only: true }).await.unwrap_err();
    assert!(refused.message().contains("cannot be recorded in /journal"), "{refused}");
    assert_eq!(state(&mut control).await, State::ReadOnly);
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_drained_bookie_takes_no_adds_and_holds_everything_in_logs() {
    let world = World::new();
    let (bookie, channel) = start(&world).await;
    let mut client = Client::connect(&bookie).await;
    for entry in 0..5 {
        client.v2(add(1, entry)).await;
    }
    let mut control = BookieControlClient::new(channel);
    let mut progress = control.drain(DrainRequest {}).await.unwrap().into_inner();
    let mut last: Option<(bool, u64, u64)> = None;
    while let Some(report) = progress.message().await.unwrap() {
        assert!(last.is_none_or(|(done, _, _)| !done), "nothing after the end");
        last = Some((report.done, report.write_cache_entries, report.journal_bytes));
    }
    assert_eq!(last, Some((true, 0, 0)));
    assert_eq!(code(client.v2(add(1, 5)).await), bookkeeper::Code::ReadOnly);
    let info = control.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.logs, info.entries, info.state()), (1, 5, State::ReadOnly));
    assert_eq!(code(client.v2(read(1, Some(4))).await), bookkeeper::Code::Ok);
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn every_byte_is_explained_and_undamaged() {
    let world = World::new();
    let (bookie, _) = start(&world).await;
    Client::connect(&bookie).await.v2(add(3, 0)).await;
    bookie.shutdown().await.unwrap();
    let (bookie, channel) = start(&world).await;
    let mut control = BookieControlClient::new(channel);
    let report = control.explain(ExplainRequest { ledgers_max: 0 }).await.unwrap().into_inner();
    let largest: Vec<_> = report.largest_ledgers.iter().map(|l| (l.ledger_id, l.entries)).collect();
    assert_eq!(largest, [(3, 1)]);
    assert_eq!(report.largest_ledgers[0].live_bytes, report.live_bytes);
    assert!(report.live_bytes > 0 && report.total_bytes > report.live_bytes, "{report:?}");
    let too_many = control.explain(ExplainRequest { ledgers_max: 10_001 }).await.unwrap_err();
    assert_eq!(too_many.code(), Code::InvalidArgument);
    let request = ListDamagedRequest { page_size: 0, page_token: String::new() };
    let damage = control.list_damaged(request).await.unwrap().into_inner();
    assert_eq!((damage.entries, damage.damaged_entries), (vec![], 0));
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_sweep_that_is_asked_for_comes_and_drops_nothing_without_its_proof() {
    let world = World::new();
    let (bookie, channel) = start(&world).await;
    let mut client = Client::connect(&bookie).await;
    client.v2(add(1, 0)).await;
    let mut control = BookieControlClient::new(channel);
    control.trigger_gc(TriggerGcRequest {}).await.unwrap();
    assert_eq!(
        code(client.v2(read(1, Some(0))).await),
        bookkeeper::Code::Ok,
        "absent for less than the grace"
    );
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn health_follows_the_bookie_to_its_end() {
    let world = World::new();
    let (bookie, channel) = start(&world).await;
    let mut health = HealthClient::new(channel);
    for service in ["", SERVICE] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut next =
        async || watch.message().await.ok().flatten().map(|answer: HealthCheckResponse| answer.status());
    assert_eq!(next().await, Some(ServingStatus::Serving));
    world.storage.fail_syncs("/journal".as_ref());
    Client::connect(&bookie).await.send_v2(&add(1, 0)).await;
    bookie.failed().await;
    assert_eq!(next().await, Some(ServingStatus::NotServing));
    assert!(bookie.shutdown().await.is_err());
    assert_eq!(next().await, None, "the port is closed");
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let world = World::new();
    let (bookie, channel) = start(&world).await;
    let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let questions = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(format!("{SERVICE}.GetInfo"))),
    ];
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(futures_util::stream::iter(questions))
        .await
        .unwrap()
        .into_inner();
    let mut next = async || answers.message().await.unwrap().and_then(|answer| answer.message_response);
    let Some(MessageResponse::ListServicesResponse(list)) = next().await else { panic!("a list") };
    let names: BTreeSet<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in [SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(names.contains(name), "{name} in {names:?}");
    }
    let file = next().await;
    assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))), "{file:?}");
    drop(answers);
    bookie.shutdown().await.unwrap();
}
