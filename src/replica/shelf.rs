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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::{join, pending};
    use tokio::sync::oneshot;

    use super::*;

    /// An answer that counts how often it was looked for.
    async fn look(looked: Rc<Cell<u32>>, answer: Option<u32>) -> Option<u32> {
        looked.set(looked.get() + 1);
        // Whoever else asks does so before it is there.
        tokio::task::yield_now().await;
        answer
    }

    fn question(text: &str) -> Vec<Option<String>> {
        vec![Some(text.to_owned()), None]
    }

    #[tokio::test]
    async fn what_is_asked_at_the_same_time_is_looked_for_once() {
        let (shelf, since, looked) = (Shelf::new(0), Instant::now(), Rc::new(Cell::new(0)));
        let find = |text, answer| shelf.find(question(text), since, look(Rc::clone(&looked), answer));
        let (one, other) = join(find("a", Some(1)), find("a", Some(2))).await;
        assert_eq!((one.as_deref(), other.as_deref(), looked.get()), (Some(&1), Some(&1), 1));
        assert_eq!(find("b", Some(3)).await.as_deref(), Some(&3), "another question has another answer");
        assert_eq!(find("a", Some(4)).await.as_deref(), Some(&1), "somebody still has it");
        drop((one, other));
        assert_eq!(find("a", Some(5)).await.as_deref(), Some(&5), "nobody had it any more");
    }

    #[tokio::test]
    async fn an_answer_is_none_for_who_came_after_it_was_asked_for() {
        let (shelf, before, looked) = (Shelf::new(1), Instant::now(), Rc::new(Cell::new(0)));
        let find = |since, answer| shelf.find(question("a"), since, look(Rc::clone(&looked), answer));
        let first = find(before, Some(1)).await;
        // The clock tells them apart.
        while Instant::now() == before {}
        let after = Instant::now();
        assert_eq!(find(after, Some(2)).await.as_deref(), Some(&2));
        assert_eq!((first.as_deref(), looked.get()), (Some(&1), 2));
    }

    #[tokio::test]
    async fn whoever_waits_gets_the_answer_also_if_who_asked_first_has_gone() {
        let (shelf, since) = (Shelf::new(0), Instant::now());
        let (tell, told) = oneshot::channel();
        let mut first = Box::pin(shelf.find(question("a"), since, async { told.await.ok() }));
        let mut second = Box::pin(shelf.find(question("a"), since, pending()));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        drop(first);
        tell.send(1).expect("somebody still looks");
        assert_eq!(second.await.as_deref(), Some(&1));
    }

    #[tokio::test]
    async fn what_failed_is_looked_for_again() {
        let (shelf, since, looked) = (Shelf::new(1), Instant::now(), Rc::new(Cell::new(0)));
        let find = |answer| shelf.find(question("a"), since, look(Rc::clone(&looked), answer));
        assert_eq!(join(find(None), find(Some(1))).await, (None, None));
        assert_eq!(find(Some(2)).await.as_deref(), Some(&2));
    }

    #[tokio::test]
    async fn so_many_answers_stay_and_no_more() {
        let (shelf, since, looked) = (Shelf::new(2), Instant::now(), Rc::new(Cell::new(0)));
        for text in ["a", "b", "c", "c", "b"] {
            shelf.find(question(text), since, look(Rc::clone(&looked), Some(1))).await;
        }
        assert_eq!(looked.get(), 3);
        shelf.find(question("a"), since, look(Rc::clone(&looked), Some(1))).await;
        assert_eq!(looked.get(), 4, "the first had to go");
        drop(Box::pin(shelf.find(question("d"), since, pending())).now_or_never());
        assert!(shelf.asked.borrow().len() <= 4, "what nobody waits for is forgotten");
    }
}
