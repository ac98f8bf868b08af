//! How fast mail goes, over the last seconds.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use base::Shutdown;
use mail::{Gateway, Totals};
use parking_lot::Mutex;

use crate::api::Rates;

/// How often the totals are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Over how many such times a rate is taken.
const WINDOW: usize = 10;

/// Looks at the totals now and then.
#[derive(Debug, Default)]
pub(super) struct Sampler(Mutex<VecDeque<(Instant, Totals)>>);

impl Sampler {
    pub(super) fn start(gateway: Arc<Gateway>, shutdown: Shutdown) -> Arc<Self> {
        let sampler = Arc::new(Self::default());
        let this = sampler.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            while !shutdown.is_stopping() {
                ticks.tick().await;
                let mut samples = this.0.lock();
                if samples.len() > WINDOW {
                    samples.pop_front();
                }
                samples.push_back((Instant::now(), gateway.counters().totals()));
            }
        });
        sampler
    }

    /// The rates per second up to now.
    pub(super) fn rates(&self, now: Instant, totals: &Totals) -> Rates {
        let samples = self.0.lock();
        let Some((since, before)) = samples.front() else { return Rates::default() };
        let seconds = now.duration_since(*since).as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        Rates {
            accepted: rate(totals.accepted, before.accepted),
            delivered: rate(totals.delivered, before.delivered),
            deferred: rate(totals.deferred, before.deferred),
            bounced: rate(totals.bounced, before.bounced),
        }
    }
}
