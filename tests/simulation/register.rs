//! A key or an account: a value that one client writes, and what it may be after a crash.

/// A value with one writer: what was acknowledged, and what may have come after it.
#[derive(Debug, Clone, Default)]
pub struct Register<T> {
    acknowledged: T,
    unanswered: Vec<T>,
    /// What a loss of power may bring back where nothing was synced.
    history: Vec<T>,
}

impl<T: Clone + PartialEq + std::fmt::Debug + Default> Register<T> {
    /// A change is asked for.
    pub fn begin(&mut self, value: T) {
        self.unanswered.push(value);
    }

    /// The last change asked for was acknowledged.
    pub fn acknowledge(&mut self) {
        if let Some(value) = self.unanswered.pop() {
            self.settle(value);
        }
    }

    /// The last change asked for was refused before anything was written.
    pub fn refuse(&mut self) {
        self.unanswered.pop();
    }

    /// What was acknowledged last.
    pub fn value(&self) -> &T {
        &self.acknowledged
    }

    fn settle(&mut self, value: T) {
        let old = std::mem::replace(&mut self.acknowledged, value);
        self.history.push(old);
        self.unanswered.clear();
    }

    /// Is there a change that had no answer?
    pub fn is_uncertain(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// The store shows this value: it must be one that it may have, and what is shown is durable.
    pub fn observe(&mut self, value: &T, what: impl Fn() -> String) {
        if *value == self.acknowledged {
            return;
        }
        match self.unanswered.iter().position(|v| v == value) {
            Some(index) => {
                let rest = self.unanswered.split_off(index + 1);
                self.settle(value.clone());
                self.unanswered = rest;
            }
            None => panic!(
                "{} is {value:?}, but {:?} was acknowledged, {:?} unanswered",
                what(),
                self.acknowledged,
                self.unanswered
            ),
        }
    }

    /// Whatever it is, it is so: used after damage that was reported.
    pub fn accept(&mut self, value: &T) {
        self.settle(value.clone());
    }

    /// What had no answer happened or did not; `observe` has said which.
    pub fn forget_unanswered(&mut self) {
        self.unanswered.clear();
    }

    /// Nothing of it was synced, and power is gone.
    pub fn loosen(&mut self) {
        let mut values = std::mem::take(&mut self.history);
        values.push(T::default());
        values.append(&mut self.unanswered);
        self.unanswered = values;
    }
}
