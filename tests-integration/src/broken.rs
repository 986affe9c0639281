//! Drivers that each break one rule of the contract, over the memory backend.
//!
//! They show that the conformance suite can fail: each must be caught by the case that is about the
//! rule it breaks.

mod driver;
mod events;
mod sender;
mod server;
mod settler;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::{Broker, Feature};

use self::driver::BrokenDriver;
use self::server::BrokenServer;
use crate::conformance::{Case, Harness, Outcome, ServerNeed, Stage, cases_of};

/// A rule that a driver breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Loses a message when a wait for it is given up.
    LosesOnCancel,
    /// Delivers messages of a key in another order.
    ReordersAKey,
    /// Acks a message as soon as it is delivered.
    AcksEarly,
    /// Says that its groups can be ordered, and ignores it.
    LiesAboutACapability,
    /// Says that it lacks what it has.
    HidesACapability,
    /// Never answers some publishes.
    LeaksAConfirm,
    /// Delivers a message twice.
    Duplicates,
    /// Delivers what the group did not ask for.
    DeliversWhatNoPatternMatches,
    /// Takes the attempt from a header that any sender can set.
    BelievesASendersAttempt,
    /// Delivers a message again while it is being handled.
    RedeliversWhileHandled,
    /// Settles what was only dropped.
    LosesWhatWasDropped,
    /// Publishes a retry anew, for every group to see.
    RetriesIntoOtherGroups,
    /// Has more in hand than was allowed.
    ExceedsPrefetch,
    /// Does not wait before a retry.
    RetriesTooEarly,
    /// Does not count a failed attempt.
    ForgetsAttempts,
    /// Counts what never reached a handler.
    CountsReleases,
    /// Keeps a dead letter without the reason.
    ForgetsTheReason,
    /// Settles only when the subscription is polled.
    SettlesBehindDelivery,
    /// Hides what a listener missed.
    HidesGaps,
    /// Confirms what nobody hears while the server is gone, and tells of no gap.
    LosesInSilence,
    /// Brings a message without its headers.
    DropsHeaders,
    /// Leaves a listener waiting after the broker was closed.
    OutlivesClose,
}

impl Fault {
    /// Every fault, with each case that must catch it.
    pub const ALL: [(Self, &'static str); 27] = [
        (Self::LosesOnCancel, "cancelling_next_loses_nothing"),
        (Self::ReordersAKey, "messages_of_one_publisher_arrive_in_call_order"),
        (Self::AcksEarly, "dropping_a_delivery_returns_it_and_counts_an_attempt"),
        (
            Self::LiesAboutACapability,
            "an_ordered_group_keeps_the_order_of_each_key_through_retries",
        ),
        (Self::HidesACapability, "the_capability_table_is_what_is_documented"),
        (Self::LeaksAConfirm, "every_confirm_is_resolved_though_nobody_waits_for_it"),
        (Self::Duplicates, "members_of_a_group_share_its_messages"),
        (Self::DeliversWhatNoPatternMatches, "patterns_select_exactly"),
        (Self::BelievesASendersAttempt, "a_sender_cannot_steer_attempts_or_set_headers_of_ours"),
        (Self::RedeliversWhileHandled, "what_is_in_hand_is_not_redelivered_elsewhere"),
        (Self::LosesWhatWasDropped, "dropping_a_delivery_returns_it_and_counts_an_attempt"),
        (Self::RetriesIntoOtherGroups, "a_retry_is_seen_by_its_own_group_only"),
        (Self::ExceedsPrefetch, "no_more_than_prefetch_is_unsettled"),
        (Self::RetriesTooEarly, "a_delayed_retry_is_never_early"),
        (Self::ForgetsAttempts, "a_retry_comes_back_with_a_raised_attempt"),
        (Self::CountsReleases, "a_release_does_not_count_as_an_attempt"),
        (
            Self::ForgetsTheReason,
            "a_rejected_message_is_kept_with_group_reason_attempts_and_origin",
        ),
        (Self::SettlesBehindDelivery, "settling_goes_on_while_deliveries_wait"),
        (Self::HidesGaps, "what_a_slow_listener_misses_is_a_gap_and_no_silence"),
        (
            Self::LosesInSilence,
            "a_listener_outlives_a_kill_of_the_server_and_loses_nothing_in_silence",
        ),
        (Self::DropsHeaders, "headers_key_id_and_content_type_are_heard"),
        (Self::OutlivesClose, "closing_sends_what_was_handed_over_and_ends_listeners"),
        (Self::LosesOnCancel, "giving_up_a_wait_loses_nothing_that_is_heard"),
        (Self::ReordersAKey, "every_listener_hears_everything_in_call_order"),
        (Self::LeaksAConfirm, "closing_sends_what_was_handed_over_and_ends_listeners"),
        (Self::Duplicates, "what_several_patterns_match_is_heard_once_and_in_its_place"),
        (Self::DeliversWhatNoPatternMatches, "listeners_hear_exactly_what_their_patterns_match"),
    ];

    /// Runs the case that must catch this fault; it did if the case failed.
    #[must_use]
    pub fn judge(self, case: &str) -> Outcome {
        let harness = BrokenHarness(self);
        match cases_of(&harness).find(|known: &&Case| known.name == case) {
            Some(case) => case.run(&harness),
            None => Outcome::Ignored(format!("no case is called {case}")),
        }
    }
}

/// The memory backend with one rule broken.
#[derive(Clone, Copy, Debug)]
pub struct BrokenHarness(pub Fault);

impl Harness for BrokenHarness {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn lacks(&self) -> &'static [Feature] {
        &[]
    }

    fn has_virtual_time(&self) -> bool {
        true
    }

    fn has_server(&self) -> bool {
        self.0 == Fault::LosesInSilence
    }

    fn stage(&self, _: ServerNeed) -> BoxFuture<'_, Result<Stage, String>> {
        let fault = self.0;
        async move {
            let server = BrokenServer::default();
            let driver = BrokenDriver::new(fault, server.clone());
            let stage = Stage::new(&[], move || {
                let driver = driver.clone();
                async { Ok(Broker::builder(driver)) }.boxed()
            });
            Ok(stage.with_server(Arc::new(server)))
        }
        .boxed()
    }
}
