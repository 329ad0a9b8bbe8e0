//! One conformance suite that every store passes, and what only one of them promises.

mod conformance;
mod etcd_faults;
mod etcd_server;
mod events;
mod ledger;
mod model;
mod redb_crash;
mod redb_file;
mod redb_power;
mod snapshots;
mod subject;

use crate::subject::Subject;

/// The suite on one implementation.
macro_rules! conformance_suite {
    ($module:ident, $subject:expr, cases = $cases:expr) => {
        mod $module {
            use super::*;

            conformance_suite!(@each $subject;
                a_key_is_made_changed_and_deleted,
                conditions_refuse_and_tell_what_is_there,
                a_transaction_is_all_or_nothing,
                a_transaction_that_changes_nothing_has_no_revision,
                a_prefix_ends_where_it_ends,
                a_list_goes_on_where_it_stopped,
                a_page_stays_what_it_was,
                a_page_ends_where_it_is_long_enough,
                what_is_held_stays_as_it_is,
                deleted_keys_are_there_at_old_revisions,
                revisions_that_are_not_there_are_refused,
                compaction_forgets_the_past_only,
                a_watch_replays_and_goes_on,
                a_watch_sees_only_its_prefix,
                a_transaction_is_one_notice,
                a_watch_from_the_past_or_future_is_refused,
                a_watch_misses_nothing_while_many_write,
                a_slow_watcher_is_cut,
                a_dropped_watch_ends,
                any_bytes_are_a_value,
                one_of_many_wins_a_race,
                counting_up_together_loses_nothing,
            );

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn behaves_like_the_model() {
                let subject: Subject = $subject;
                model::compare(&subject, $cases).await;
            }
        }
    };
    (@each $subject:expr; $($case:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let subject: Subject = $subject;
            conformance::$case(&subject).await;
        }
    )*};
}

conformance_suite!(memory_store, Subject::memory(), cases = 200);
conformance_suite!(redb_store, Subject::redb(), cases = 24);
conformance_suite!(etcd_store, Subject::etcd().await, cases = 6);
