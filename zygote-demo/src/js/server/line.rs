//! Who may run a script now, who waits, and who is sent away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many run at the same time, and so many more wait, first come, first served.
#[derive(Debug)]
pub(super) struct Line {
    turns: Arc<Semaphore>,
    concurrency: u32,
    waiting: AtomicUsize,
    longest: usize,
}

/// A place in the line, given up when it is dropped.
struct Place<'a>(&'a Line);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Line {
    pub(super) fn new(concurrency: usize, longest: usize) -> Line {
        Line {
            turns: Arc::new(Semaphore::new(concurrency)),
            // The command line has no larger numbers.
            concurrency: u32::try_from(concurrency).unwrap_or(u32::MAX),
            waiting: AtomicUsize::new(0),
            longest,
        }
    }

    /// Waits for one's turn, which lasts until the permit is dropped. `None` if the line is too long.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.turns).try_acquire_owned() {
            return Some(permit);
        }
        let longer = |waiting| (waiting < self.longest).then_some(waiting + 1);
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, longer)
            .ok()?;
        let _place = Place(self);
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits until nobody runs. Nobody may come any more.
    pub(super) async fn until_idle(&self) {
        // An error would mean that it is closed, which it never is.
        let _ = self.turns.acquire_many(self.concurrency).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn some_run_some_wait_and_the_others_are_sent_away() {
        let line = Line::new(1, 1);
        let first = line.turn().await.unwrap();
        let mut second = Box::pin(line.turn());
        tokio::select! {
            biased;
            _ = &mut second => panic!("it is not its turn"),
            () = std::future::ready(()) => (),
        }
        assert_eq!(line.waiting(), 1);
        assert!(line.turn().await.is_none());
        drop(first);
        let second = second.await.unwrap();
        assert_eq!(line.waiting(), 0);
        drop(second);
        line.until_idle().await;
    }
}
