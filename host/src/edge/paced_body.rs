//! A request's body that must arrive at a bearable pace: a client that sends a byte a second would hold its connection, and
//! whatever its handler holds, for days.

use std::{
    error::Error,
    iter,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::body_budget::{Charge, NoRoom};

/// Time for any body; it grows by a second for each of these many bytes that have arrived.
const GRACE: Duration = Duration::from_secs(20);
const BYTES_A_SECOND: u64 = 16 << 10;

/// The body of a request.
pub struct PacedBody<B = Incoming> {
    body: B,
    charge: Arc<Charge>,
    began: Instant,
    arrival: Arc<Arrival>,
    /// Made when the body has to be waited for; most are there at once.
    late: Option<Pin<Box<Sleep>>>,
}

/// How much of a body has been read.
#[derive(Debug)]
pub struct Arrival {
    /// All of it, when the client has said so.
    expected: Option<u64>,
    received: AtomicU64,
    ended: AtomicBool,
}

/// Bytes of a body that nobody wants which are read all the same, so that the connection can go on: they have come with the head.
const SPARE: u64 = 4 << 10;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client is too slow.
    #[error("the body of the request arrives too slowly: send it faster, or send less")]
    TooSlow,
    /// All memory for bodies is in use.
    #[error(transparent)]
    NoRoom(NoRoom),
    /// The connection failed, or what came is no body.
    #[error("the body of the request could not be read")]
    Unreadable(#[source] Box<dyn Error + Send + Sync>),
}

impl BodyError {
    /// The reason among the causes of an error.
    pub fn among<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
    }
}

impl Arrival {
    /// Whether another request can follow on the connection although nobody reads this one's body any further.
    pub fn is_over(&self) -> bool {
        let left = self.expected.map(|expected| expected.saturating_sub(self.received.load(Ordering::Relaxed)));
        self.ended.load(Ordering::Relaxed) || left.is_some_and(|left| left <= SPARE)
    }
}

impl<B: Body> PacedBody<B> {
    /// Begins to measure; what arrives is charged.
    pub fn new(body: B, charge: Arc<Charge>) -> Self {
        let expected = body.size_hint().exact();
        let arrival = Arc::new(Arrival { expected, received: AtomicU64::new(0), ended: AtomicBool::new(false) });
        Self { body, charge, began: Instant::now(), arrival, late: None }
    }

    /// How much of it has been read, also after it is given away.
    pub fn arrival(&self) -> Arc<Arrival> {
        self.arrival.clone()
    }
}

impl<B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin> Body for PacedBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { body, charge, began, arrival, late } = self.get_mut();
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                arrival.received.fetch_add(bytes as u64, Ordering::Relaxed);
                Poll::Ready(Some(charge.add(bytes).map(|()| frame).map_err(BodyError::NoRoom)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Unreadable(error.into())))),
            Poll::Ready(None) => {
                arrival.ended.store(true, Ordering::Relaxed);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let deadline = *began + time_for(arrival.received.load(Ordering::Relaxed));
                let late = late.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                if late.deadline() != deadline {
                    late.as_mut().reset(deadline);
                }
                late.as_mut().poll(cx).map(|()| Some(Err(BodyError::TooSlow)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long a body may take of which so much has arrived.
fn time_for(received: u64) -> Duration {
    GRACE + Duration::from_secs(received / BYTES_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a body still arrives after an hour at this pace.
    fn arrives(bytes_a_second: u64) -> bool {
        (1..3_600).all(|second| Duration::from_secs(second) <= time_for(second * bytes_a_second))
    }

    #[test]
    fn a_slow_line_arrives_and_a_dripping_one_does_not() {
        assert!(arrives(20 << 10));
        assert!(!arrives(8 << 10));
        assert!(!arrives(1));
        assert_eq!(time_for(20), Duration::from_secs(20));
    }
}
