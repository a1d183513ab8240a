//! Frames between the threads of one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use super::{Arrival, FramePool, Transport};

struct ChannelTransport {
    rank_idx: usize,
    senders: Vec<Sender<(usize, Vec<u8>)>>,
    receiver: Receiver<(usize, Vec<u8>)>,
    /// Bytes on their way, `[src * num_ranks + dst]`.
    num_outstanding: Arc<[AtomicUsize]>,
    pool: FramePool,
}

/// Returns one transport per rank, all connected.
pub(in crate::comm) fn channels(num_ranks: usize) -> Vec<Box<dyn Transport>> {
    let num_outstanding: Arc<[AtomicUsize]> =
        (0..num_ranks * num_ranks).map(|_| AtomicUsize::new(0)).collect();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..num_ranks).map(|_| channel()).unzip();
    receivers
        .into_iter()
        .enumerate()
        .map(|(rank_idx, receiver)| {
            Box::new(ChannelTransport {
                rank_idx,
                senders: senders.clone(),
                receiver,
                num_outstanding: Arc::clone(&num_outstanding),
                pool: FramePool::default(),
            }) as Box<dyn Transport>
        })
        .collect()
}

impl ChannelTransport {
    fn outstanding(&self, src: usize, dst: usize) -> &AtomicUsize {
        &self.num_outstanding[src * self.senders.len() + dst]
    }
}

impl Transport for ChannelTransport {
    fn send(&mut self, dst: usize, frame: Vec<u8>) {
        let num_bytes = frame.len();
        self.outstanding(self.rank_idx, dst).fetch_add(num_bytes, Ordering::Relaxed);
        if self.senders[dst].send((self.rank_idx, frame)).is_err() {
            self.outstanding(self.rank_idx, dst).fetch_sub(num_bytes, Ordering::Relaxed);
        }
    }

    fn receive(&mut self) -> Option<Arrival> {
        match self.receiver.try_recv() {
            Ok((src, frame)) => {
                self.outstanding(src, self.rank_idx).fetch_sub(frame.len(), Ordering::Relaxed);
                Some(Arrival::Frame { src, frame })
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    fn num_outstanding_bytes(&mut self, dst: usize) -> usize {
        self.outstanding(self.rank_idx, dst).load(Ordering::Relaxed)
    }

    fn pool(&mut self) -> &mut FramePool {
        &mut self.pool
    }

    fn flush(&mut self, _limit: Duration) {}

    fn finish(&mut self, _clean: bool) {}
}
