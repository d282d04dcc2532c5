//! Answers that are found once for all that ask at about the same time.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::{Rc, Weak},
};

use futures_util::{
    FutureExt as _,
    future::{LocalBoxFuture, Shared, WeakShared},
};
use tokio::time::Instant;

/// An answer to come; nothing where that fails, and each looks for itself.
type Answer<T> = LocalBoxFuture<'static, Option<Rc<T>>>;

/// Answers that several may ask for. Each is looked for by all that wait for it, whoever asked first, and is known as
/// long as anybody has it.
pub(super) struct Shelf<T> {
    asked: RefCell<Vec<Asked<T>>>,
    /// The last few, which stay known.
    kept: Rc<RefCell<VecDeque<Rc<T>>>>,
    keeps: usize,
}

struct Asked<T> {
    /// All that the answer depends on.
    question: Vec<Option<String>>,
    since: Instant,
    answer: WeakShared<Answer<T>>,
    found: Rc<RefCell<Weak<T>>>,
}

impl<T: 'static> Shelf<T> {
    pub(super) fn new(keeps: usize) -> Self {
        Self { asked: RefCell::default(), kept: Rc::default(), keeps }
    }

    /// The answer that somebody asked for since then, or else what `look` finds.
    pub(super) async fn find(
        &self,
        question: Vec<Option<String>>,
        since: Instant,
        look: impl Future<Output = Option<T>> + 'static,
    ) -> Option<Rc<T>> {
        let known = {
            let mut asked = self.asked.borrow_mut();
            asked
                .retain(|asked| asked.answer.upgrade().is_some() || asked.found.borrow().upgrade().is_some());
            let same = asked.iter().rfind(|asked| asked.question == question && asked.since >= since);
            same.map(|same| (same.found.borrow().upgrade(), same.answer.upgrade()))
        };
        match known {
            Some((Some(found), _)) => Some(found),
            Some((None, Some(answer))) => answer.await,
            _ => self.ask(question, look).await,
        }
    }

    fn ask(
        &self,
        question: Vec<Option<String>>,
        look: impl Future<Output = Option<T>> + 'static,
    ) -> Shared<Answer<T>> {
        let found = Rc::new(RefCell::new(Weak::new()));
        let (note, kept, keeps) = (Rc::clone(&found), Rc::clone(&self.kept), self.keeps);
        let looking = async move {
            let answer = Rc::new(look.await?);
            *note.borrow_mut() = Rc::downgrade(&answer);
            let mut kept = kept.borrow_mut();
            kept.push_back(Rc::clone(&answer));
            if kept.len() > keeps {
                kept.pop_front();
            }
            Some(answer)
        };
        let answer = looking.boxed_local().shared();
        if let Some(weak) = answer.downgrade() {
            self.asked.borrow_mut().push(Asked { question, since: Instant::now(), answer: weak, found });
        }
        answer
    }
}
