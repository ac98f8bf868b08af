//! How a fault happens to a node.

use std::{sync::Arc, time::Duration};

use super::{Fault, plan::Planned};
use crate::fleet::{Account, FleetError, Lost, Member, Spell};

/// A fault that has happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Happened {
    pub(super) planned: Planned,
    /// When it began, by the account's time.
    pub(super) began: Duration,
    /// When the node ran again and was linked.
    pub(super) over: Duration,
}

impl Happened {
    /// The time in which the node was lost; nothing of one that was stopped in order.
    pub(super) fn spell(&self) -> Option<Spell> {
        let what = match self.planned.fault {
            Fault::Kill => Lost::Killed(self.planned.node),
            Fault::Freeze => Lost::Frozen(self.planned.node),
            Fault::Manager => Lost::Manager,
            Fault::Stop => return None,
        };
        Some(Spell { what, began: self.began, over: self.over })
    }
}

/// Lets a fault happen, and waits until the node runs again.
pub(super) async fn happen(
    planned: Planned,
    member: Arc<Member>,
    account: Arc<Account>,
) -> Result<Happened, FleetError> {
    let began = account.now();
    match planned.fault {
        Fault::Kill | Fault::Manager => member.kill()?,
        Fault::Freeze => member.freeze()?,
        Fault::Stop => member.terminate().await?,
    }
    tokio::time::sleep(planned.lasts).await;
    match planned.fault {
        Fault::Freeze => member.thaw()?,
        Fault::Kill | Fault::Manager | Fault::Stop => member.start()?,
    }
    member.runs().await?;
    Ok(Happened { planned, began, over: account.now() })
}
