use tests_integration::audit::{
    End, Event, Fate, History, Id, Outcome, Promise, Tenure, Verdict, What, audit,
};

/// A history under construction; each event has the next tick of the clock.
#[derive(Default)]
pub(crate) struct Story(pub(crate) Vec<Event>);

pub(crate) const SUB: &str = "billing";

pub(crate) const fn id(sequence: u64) -> Id {
    Id { producer: 1, sequence }
}

impl Story {
    pub(crate) fn with(lossy: bool, ordered: bool) -> Self {
        let mut story = Self::default();
        let patterns = vec!["tasks.#".to_owned()];
        story.add(What::Subscribed { subscription: SUB.to_owned(), patterns, lossy, ordered });
        story
    }

    pub(crate) fn add(&mut self, what: What) -> &mut Self {
        self.0.push(Event { at: self.0.len() as u64, what });
        self
    }

    /// Lets time pass in which nothing of interest happens.
    pub(crate) fn pass(&mut self, ticks: usize) -> &mut Self {
        (0..ticks).for_each(|_| _ = self.gap(None));
        self
    }

    pub(crate) fn publish(&mut self, n: u64, outcome: Outcome) -> &mut Self {
        self.call(n).add(What::Published { id: id(n), outcome })
    }

    pub(crate) fn call(&mut self, n: u64) -> &mut Self {
        let (subject, key) = ("tasks.x".to_owned(), Some("k".to_owned()));
        self.add(What::Publishing { id: id(n), subject, key, digest: n })
    }

    pub(crate) fn deliver(&mut self, n: u64) -> &mut Self {
        self.add(What::Delivered {
            subscription: SUB.to_owned(),
            id: id(n),
            digest: n,
            tenure: None,
        })
    }

    pub(crate) fn end(&mut self, n: u64, end: End) -> &mut Self {
        self.add(What::Handled { subscription: SUB.to_owned(), id: id(n), end, tenure: None })
    }

    /// `deliver`, by an owner of lane 0 in an epoch.
    pub(crate) fn begin(&mut self, n: u64, epoch: u32, owner: u32) -> &mut Self {
        let (subscription, tenure) = (SUB.to_owned(), Some(Tenure { lane: 0, epoch, owner }));
        self.add(What::Delivered { subscription, id: id(n), digest: n, tenure })
    }

    /// A success of what an owner began.
    pub(crate) fn succeed(&mut self, n: u64, epoch: u32, owner: u32) -> &mut Self {
        let (subscription, tenure) = (SUB.to_owned(), Some(Tenure { lane: 0, epoch, owner }));
        self.add(What::Handled { subscription, id: id(n), end: End::Ok, tenure })
    }

    pub(crate) fn handle(&mut self, n: u64) -> &mut Self {
        self.deliver(n).end(n, End::Ok).ack(n)
    }

    pub(crate) fn ack(&mut self, n: u64) -> &mut Self {
        self.add(What::Acking { subscription: SUB.to_owned(), id: id(n) })
    }

    pub(crate) fn give_back(&mut self, n: u64) -> &mut Self {
        self.add(What::GivenBack { subscription: SUB.to_owned(), id: id(n) })
    }

    pub(crate) fn fate(&mut self, n: u64, fate: Fate) -> &mut Self {
        self.add(What::Ended { subscription: SUB.to_owned(), id: id(n), fate })
    }

    pub(crate) fn gap(&mut self, missed: Option<u64>) -> &mut Self {
        self.add(What::Gap { subscription: SUB.to_owned(), missed })
    }

    pub(crate) fn fault(&mut self, begins: bool) -> &mut Self {
        let fault = "kill".to_owned();
        self.add(if begins { What::FaultBegan { fault } } else { What::FaultEnded { fault } })
    }

    /// The verdict and the rules that were broken.
    pub(crate) fn judge(&self) -> (Verdict, Vec<&'static str>) {
        let promise = Promise { settling: 0, ..Promise::default() };
        let report = audit(&History(self.0.clone()), &promise);
        assert_eq!(report.findings.len() as u64, report.counts.values().sum::<u64>());
        (report.verdict, report.counts.keys().copied().collect())
    }

    pub(crate) fn breaks(&self, rules: &[&str]) {
        assert_eq!(self.judge(), (Verdict::Invalid, rules.to_vec()));
    }

    pub(crate) fn holds(&self) {
        assert_eq!(self.judge(), (Verdict::Valid, Vec::new()));
    }
}

pub(crate) fn consumer() -> Story {
    Story::with(false, true)
}
