//! A store around another, which a test makes slow, fail or panic.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use taskflow::Store;
use taskflow::model::{StoreError, StoreErrorKind};
use taskflow::store::{
    HintStream, Immediate, InsertBatch, Inserted, Refusal, StoreCall, StoreFuture, StoreLayer,
};

/// Runs before a call. If it ends with an error, that is the answer, and the call is not made.
pub(crate) type Before = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// Gets the name of each call. It runs when the call is made; the future that it returns runs when the call is awaited.
type Hook = Arc<dyn Fn(&'static str) -> Before + Send + Sync>;

/// Gets the name of each call that succeeded, and says whether its answer is lost.
type Loses = Arc<dyn Fn(&'static str) -> bool + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Wrapper {
    inner: Arc<dyn Store>,
    hook: Hook,
    before_insert: Option<InsertHook>,
    loses: Loses,
    inserted: InsertAnswer,
    before_insert_now: Option<InsertNowHook>,
}

/// Gets each batch that is inserted at once.
type InsertNowHook = Arc<dyn Fn(&InsertBatch) + Send + Sync>;

/// The answer of a store to an insert.
pub(crate) type InsertAnswers = Vec<Result<Vec<Inserted>, Refusal>>;

/// Changes the answer to an insert.
pub(crate) type InsertAnswer = fn(InsertAnswers) -> InsertAnswers;

/// Gets each batch before it is inserted.
type InsertHook = Arc<dyn Fn(&InsertBatch) -> Before + Send + Sync>;

impl Wrapper {
    pub(crate) fn new(
        inner: Arc<dyn Store>,
        hook: impl Fn(&'static str) -> Before + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            hook: Arc::new(hook),
            before_insert: None,
            loses: Arc::new(|_| false),
            inserted: |answer| answer,
            before_insert_now: None,
        }
    }

    /// Inserts immediately, like the inner store, and shows each batch to `hook` before.
    #[must_use]
    pub(crate) fn inserting_now(self, hook: impl Fn(&InsertBatch) + Send + Sync + 'static) -> Self {
        Self { before_insert_now: Some(Arc::new(hook)), ..self }
    }

    /// Runs `hook` only before inserts, with each batch.
    pub(crate) fn of_inserts(
        inner: Arc<dyn Store>,
        hook: impl Fn(&InsertBatch) -> Before + Send + Sync + 'static,
    ) -> Self {
        let before_insert: Option<InsertHook> = Some(Arc::new(hook));
        Self { before_insert, ..Self::new(inner, |_| go_on()) }
    }

    /// Makes the calls that `loses` chooses, and loses their answers.
    #[must_use]
    pub(crate) fn losing(self, loses: impl Fn(&'static str) -> bool + Send + Sync + 'static) -> Self {
        Self { loses: Arc::new(loses), ..self }
    }

    /// Makes inserts, and changes their answers.
    #[must_use]
    pub(crate) fn answering_inserts(self, inserted: InsertAnswer) -> Self {
        Self { inserted, ..self }
    }

    fn answer<T>(&self, call: &'static str, answer: T) -> Result<T, StoreError> {
        match (self.loses)(call) {
            true => Err(StoreError::new(StoreErrorKind::Unknown, "the answer was lost")),
            false => Ok(answer),
        }
    }
}

/// A hook's answer that does nothing: the call goes on at once.
pub(crate) fn go_on() -> Before {
    Box::pin(std::future::ready(Ok(())))
}

impl fmt::Debug for Wrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wrapper").field(&self.inner).finish()
    }
}

impl Immediate for Wrapper {
    fn insert_now(&self, batch: &InsertBatch) -> InsertAnswers {
        self.before_insert_now.as_ref().expect("it inserts at once")(batch);
        self.inner.immediate().expect("so does the store inside").insert_now(batch)
    }
}

impl StoreLayer for Wrapper {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn around<'a, T: Send + 'a>(
        &'a self,
        call: StoreCall,
        inner: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        let before = (self.hook)(call.name);
        Box::pin(async move {
            before.await?;
            let answer = inner().await?;
            self.answer(call.name, answer)
        })
    }

    fn immediate(&self) -> Option<&dyn Immediate> {
        self.before_insert_now.is_some().then_some(self)
    }

    fn insert(&self, batch: Arc<InsertBatch>) -> StoreFuture<'_, InsertAnswers> {
        let before = (self.hook)("insert");
        let before_insert = self.before_insert.as_ref().map_or_else(go_on, |hook| hook(&batch));
        Box::pin(async move {
            before.await?;
            before_insert.await?;
            let answer = self.inner.insert(batch).await?;
            self.answer("insert", (self.inserted)(answer))
        })
    }

    fn listen(&self) -> HintStream {
        drop((self.hook)("listen"));
        self.inner.listen()
    }
}
