//! `admin bundles …`

use crate::admin::call::Method::Get;
use crate::admin::verb::Verb;

pub(super) const VERBS: &[Verb] = &[Verb::new(
    "list",
    Get,
    "/admin/v2/bundles",
    &[],
    "Every bundle that is served now, with its broker (a path of magnetar's own)",
)];
