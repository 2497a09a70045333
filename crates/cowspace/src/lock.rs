//! The engine's locks: the standard library's, which wait in the kernel and need nothing of the thread.
//!
//! The program's `malloc` may live in memory that the engine serves. So a thread that waits for a lock must not allocate, not even once in its life, as a lock with
//! a queue of its own would: it may hold other locks that `malloc` then comes back for.
//!
//! A panic under a lock is a bug of the engine; the state is not given up for it, so that other threads' memory stays reachable.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, PoisonError, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

/// A locked [`Mutex`].
pub(crate) struct MutexGuard<'a, T> {
    lock: &'a Mutex<T>,
    /// `None` only inside of [`MutexGuard::unlocked`] and [`MutexGuard::wait`].
    guard: Option<std::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Mutex<T> {
        Mutex(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard {
            lock: self,
            guard: Some(guard),
        }
    }

    /// Locks it if nobody else has. Never waits.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = match self.0.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard {
            lock: self,
            guard: Some(guard),
        })
    }
}

impl<T> MutexGuard<'_, T> {
    /// Runs `f` with the lock released, and takes it again.
    pub(crate) fn unlocked<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.guard = None;
        let result = f();
        *self = self.lock.lock();
        result
    }

    /// Sleeps with the lock released until `changed` is notified, so long at most, or for no reason.
    pub(crate) fn wait(&mut self, changed: &Condvar, at_most: Option<Duration>) {
        let Some(guard) = self.guard.take() else {
            return;
        };
        self.guard = Some(match at_most {
            None => changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
            Some(at_most) => {
                let woken = changed.wait_timeout(guard, at_most);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        });
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard
            .as_ref()
            .expect("nobody looks while it is unlocked")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard
            .as_mut()
            .expect("nobody looks while it is unlocked")
    }
}

#[derive(Default)]
pub(crate) struct RwLock<T>(std::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> RwLock<T> {
        RwLock(std::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
