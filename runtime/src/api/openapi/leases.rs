//! The routes of external workers: of what they take, and what they say of it.

use super::bodies::{FinishBody, LeaseBody, LogBody, ProgressBody, RenewBody};
use super::route::Route;
use crate::api::lease::LeasesShown;
use crate::api::runs::{FinishedShown, RenewedShown};

pub(super) fn routes() -> Vec<Route> {
    let run = |path, id, summary| {
        Route::new("post", path, id, summary).reads().no(&["not_found", "stale_run", "no_node", "draining"])
    };
    vec![
        Route::new(
            "post",
            "/v1/lease",
            "lease",
            "Take runs of external kinds, and wait for them if there are none yet",
        )
        .body::<LeaseBody>()
        .writes()
        .json::<LeasesShown>(200, "The runs, each with its token; none: nothing came")
        .no(&["no_node", "draining"]),
        run("/v1/runs/{id}/{run}/renew", "renewRun", "Begin the lease of a run anew")
            .body::<RenewBody>()
            .json::<RenewedShown>(200, "Until when, and whether the job is to be cancelled"),
        run("/v1/runs/{id}/{run}/finish", "finishRun", "Say how a run ended; the same again is answered the same")
            .body::<FinishBody>()
            .writes()
            .json::<FinishedShown>(200, "It is recorded"),
        run("/v1/runs/{id}/{run}/log", "logRun", "Log lines of a run").body::<LogBody>().answers(
            204,
            "They are there",
            "",
            None,
        ),
        run("/v1/runs/{id}/{run}/progress", "progressRun", "Say how far a run is").body::<ProgressBody>().answers(
            204,
            "It is known",
            "",
            None,
        ),
    ]
}
