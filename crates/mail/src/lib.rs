//! The mail trade: how a message comes in, waits, goes out and is recorded.
//!
//! A message's way, by file:
//!
//! | beat | files |
//! |---|---|
//! | 1 intake | [`listener`] → `session` (asks `policy`) → `intake` |
//! | 2 store and publish | the `queue` crate; `envelope` is what mail writes into it |
//! | 3 dispatch | `dispatcher` with `due` |
//! | 4 place | `delivery` leases what may go now and makes a `burst` of it |
//! | 5 attempt | `attempt` over a `connection` |
//! | 6 conclude | `outcome` → `bounce` |
//! | 7 record | `log` with `retention` |

mod attempt;
mod bounce;
mod budget;
mod burst;
mod config;
mod connection;
mod counters;
mod delivery;
mod dispatcher;
mod due;
mod envelope;
mod gateway;
mod intake;
mod lately;
mod listener;
mod log;
mod opening;
mod outcome;
mod policy;
mod registry;
mod resolver;
mod retention;
mod route;
mod session;
mod stream;
mod tls;

pub use config::{Config, Delivery, Dns, Limits, Live, Relay, Timeouts};
pub use counters::{Counters, Totals};
pub use envelope::{Header as MessageHeader, Source, State as WorkState};
pub use gateway::{Door, Gateway, GatewayError, Waiting};
pub use intake::{Submission, SubmissionError};
pub use route::Route;
pub use tls::{Tls, TlsLevel};
