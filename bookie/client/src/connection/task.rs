//! The task of a connection: connects when there is something to send, and fails what cannot be sent.

use super::live::Live;
use super::request::Outgoing;
use super::{Context, Shared};
use magnetar_common::net::Stream;
use magnetar_proto::bookkeeper::BookieId;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// After a failed attempt requests fail at once for so long, instead of each waiting for another attempt. Doubles from
/// failure to failure.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Low enough that a bookie that is back serves again before anybody notices.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Ends when no handle of the connection is left. Everything queued by then has its outcome.
pub(super) async fn run(bookie: BookieId, shared: Arc<Shared>) {
    let context = shared.context.clone();
    let env = &context.env;
    let mut pause = PAUSE_MIN;
    let mut retry_at = Duration::ZERO;
    let mut batch = Vec::new();
    while shared.take(&mut batch).await {
        if env.clock.now() < retry_at {
            fail(&shared, &mut batch);
            continue;
        }
        match connect(&bookie, &context).await {
            Ok(stream) => {
                pause = PAUSE_MIN;
                let error = Live::new(&shared, env).serve(stream, &mut batch).await;
                if let Err(error) = error {
                    tracing::info!(%bookie, %error, "the connection to a bookie ended");
                    // One that breaks as soon as it is made must not be made over and over without a pause.
                    retry_at = env.clock.now() + PAUSE_MIN;
                }
            }
            Err(error) => {
                if pause == PAUSE_MIN {
                    tracing::warn!(%bookie, %error, "cannot connect to a bookie");
                }
                retry_at = env.clock.now() + pause;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        fail(&shared, &mut batch);
    }
}

fn fail(shared: &Shared, batch: &mut Vec<Outgoing>) {
    batch.drain(..).for_each(|request| shared.fail(request));
}

async fn connect(bookie: &BookieId, context: &Context) -> io::Result<Stream> {
    let address = context.directory.resolve(bookie);
    let address = address.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is not registered"))?;
    context.dial(&address).await
}
