//! The mail trade: how a message comes in, waits, goes out and is recorded.
//!
//! A message's way, by file:
//!
//! | beat | files |
//! |---|---|
//! | 1 intake | `doors` open [`listener`] → `session` (asks `policy`) → `intake` |
//! | 2 store and publish | the `queue` crate; `envelope` is what mail writes into it |
//! | 3 dispatch | `dispatcher` with the pure `schedule`: `due`, `lanes` and `site`, `fair`, `throttle`, `reach`, `pause`, `why` |
//! | 4 place | `delivery` leases what may go now and makes a `burst` of it |
//! | 5 attempt | `attempt` over a `connection`, with what `attempts` of the node share |
//! | 6 conclude | `outcome` → `bounce` |
//! | 7 record | `log` with `retention` |

mod attempt;
mod attempts;
mod away;
mod bounce;
mod budget;
mod burst;
mod by_hand;
mod config;
mod connection;
mod counters;
mod delivery;
mod depths;
mod destination;
mod dispatcher;
mod doors;
mod due;
mod envelope;
mod exhausted;
mod fair;
mod gateway;
mod intake;
mod keeping;
mod lanes;
mod lately;
mod listener;
mod log;
mod opening;
mod outcome;
mod patience;
mod pause;
mod place;
mod policy;
mod probe;
mod reach;
mod refusals;
mod registry;
mod resolver;
mod retention;
mod route;
mod schedule;
mod session;
mod site;
mod stream;
mod throttle;
mod tls;
mod turns;
mod why;
mod worker;

pub use attempts::Files;
pub use by_hand::{Action, ResumeError, Selection, Tally};
pub use config::{Config, Delivery, Dns, Limits, Live, Relay, Timeouts};
pub use counters::{Counters, Totals};
pub use depths::Depths;
pub use destination::{Destination, Rule, Which, Wishes};
pub use doors::Door;
pub use envelope::{Header as MessageHeader, Source, State as WorkState};
pub use gateway::{Gateway, GatewayError, Waiting};
pub use intake::{Handling, Submission, SubmissionError};
pub use probe::{MailHost, hop_addresses, mail_hosts};
pub use route::Route;
pub use tls::{Tls, TlsLevel};
pub use why::Waits;
pub use worker::Worker;
