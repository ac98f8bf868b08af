//! The clock that counts from this machine's boot, also while it sleeps.

use crate::membership::Moment;

/// The moment now.
pub(crate) fn now() -> Moment {
    Moment(base::since_boot())
}
