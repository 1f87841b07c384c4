//! The methods of the control service.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use magnetar_proto::ids::LedgerId;
use tonic::{Request, Response, Status};

use super::{answer, drain, space};
use crate::control::{Control, Phase};
use crate::control_api::bookie_control_server::BookieControl;
use crate::control_api::{
    DrainProgress, DrainRequest, ExplainRequest, ExplainResponse, GetInfoRequest, GetInfoResponse,
    GetLedgerRequest, GetLedgerResponse, ListDamagedRequest, ListDamagedResponse, ListLedgersRequest,
    ListLedgersResponse, ListLogsRequest, ListLogsResponse, SetReadOnlyRequest, SetReadOnlyResponse, State,
    TriggerGcRequest, TriggerGcResponse,
};
use crate::engine::Engine;
use crate::metrics::ServerStatus;
use crate::server::Durable;

type Answer<T> = Result<Response<T>, Status>;

pub(super) struct Service {
    pub(super) control: Arc<Control>,
}

impl Service {
    /// Asks the engine on a thread that may block.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Engine<Durable>) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let engine = self.control.engine.clone();
        let asked = tokio::task::spawn_blocking(move || question(&engine)).await;
        asked.map_err(|_| Status::unavailable("the bookie is ending; ask again once it runs"))
    }

    fn state(&self) -> State {
        if self.control.has_failed() {
            return State::Failed;
        }
        match (self.control.phase(), self.control.status()) {
            (Phase::Starting, _) => State::Starting,
            (Phase::Stopping, _) => State::Stopping,
            (Phase::Serving, ServerStatus::ReadOnly) => State::ReadOnly,
            (Phase::Serving, _) => State::Writable,
        }
    }
}

#[tonic::async_trait]
impl BookieControl for Service {
    async fn get_info(&self, _: Request<GetInfoRequest>) -> Answer<GetInfoResponse> {
        let status = self.control.status();
        let gauges = self.ask(move |engine| engine.gauges(status)).await?;
        let about = &self.control.about;
        Ok(Response::new(GetInfoResponse {
            bookie_id: about.bookie.to_string(),
            instance: about.instance.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            address: about.address.clone(),
            state: self.state().into(),
            read_only_reasons: answer::reasons(self.control.mode()),
            journal_dir: answer::path(&about.journal_dir),
            ledger_dirs: gauges.dirs.into_iter().map(answer::dir).collect(),
            ledgers: gauges.ledgers,
            entries: gauges.entries,
            write_cache_bytes: gauges.write_cache_bytes,
            journal_bytes: gauges.journal_bytes,
            logs: gauges.logs,
            log_bytes: gauges.log_bytes,
            damaged_logs: gauges.damaged_logs,
        }))
    }

    async fn list_ledgers(&self, request: Request<ListLedgersRequest>) -> Answer<ListLedgersResponse> {
        let request = request.into_inner();
        let (from, max) = answer::page(request.page_size, &request.page_token)?;
        let page = self.ask(move |engine| engine.ledger_page(from, max)).await?;
        Ok(Response::new(ListLedgersResponse {
            ledgers: page.items.into_iter().map(answer::ledger).collect(),
            next_page_token: answer::token(page.next),
        }))
    }

    async fn get_ledger(&self, request: Request<GetLedgerRequest>) -> Answer<GetLedgerResponse> {
        let ledger = LedgerId(request.into_inner().ledger_id);
        let facts = self.ask(move |engine| engine.ledger_facts(ledger)).await?.ok_or_else(|| {
            let place = "its metadata names the bookies that hold it";
            Status::not_found(format!("ledger {ledger} is not known to this bookie; {place}"))
        })?;
        Ok(Response::new(GetLedgerResponse { ledger: Some(answer::ledger(facts)) }))
    }

    async fn list_logs(&self, request: Request<ListLogsRequest>) -> Answer<ListLogsResponse> {
        let request = request.into_inner();
        let (from, max) = answer::page(request.page_size, &request.page_token)?;
        let page = self.ask(move |engine| engine.log_page(from, max)).await?;
        Ok(Response::new(ListLogsResponse {
            logs: page.items.into_iter().map(answer::log).collect(),
            next_page_token: answer::token(page.next),
        }))
    }

    async fn trigger_gc(&self, _: Request<TriggerGcRequest>) -> Answer<TriggerGcResponse> {
        self.control.gc.ask();
        Ok(Response::new(TriggerGcResponse {}))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Answer<ExplainResponse> {
        let ledgers_max = space::ledgers_max(request.into_inner().ledgers_max)?;
        let report = self.ask(Engine::explain).await?.map_err(|error| {
            Status::unavailable(format!("cannot look at the data directories: {error}; see to the disks"))
        })?;
        Ok(Response::new(space::explain(&report, ledgers_max)))
    }

    async fn list_damaged(&self, request: Request<ListDamagedRequest>) -> Answer<ListDamagedResponse> {
        let request = request.into_inner();
        let (from, max) = answer::page(request.page_size, &request.page_token)?;
        let page = self.ask(move |engine| space::damaged(&engine.findings, from, max)).await?;
        Ok(Response::new(page))
    }

    async fn set_read_only(&self, request: Request<SetReadOnlyRequest>) -> Answer<SetReadOnlyResponse> {
        let wish = request.into_inner().read_only;
        let mode = self.control.set_read_only(wish).await.map_err(Status::internal)?;
        let reasons = answer::reasons(mode);
        Ok(Response::new(SetReadOnlyResponse { read_only: mode.is_read_only(), reasons }))
    }

    type DrainStream = BoxStream<'static, Result<DrainProgress, Status>>;

    async fn drain(&self, _: Request<DrainRequest>) -> Answer<Self::DrainStream> {
        self.control.set_read_only(true).await.map_err(Status::internal)?;
        Ok(Response::new(drain::start(self.control.clone())))
    }
}
