//! How many bytes have gone over the links of a manager, both ways, by the kernel's own count.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::step::{command, output};

/// The links of a manager: what each has carried, by where it comes from.
pub(super) struct Links(BTreeMap<String, u64>);

impl Links {
    /// Looks at the connections at the manager's port for nodes, from its end (ss(8); TCP_INFO of tcp(7)).
    ///
    /// # Errors
    /// `ss` (package iproute2) does not run.
    pub(super) fn at(port: u16) -> Result<Self> {
        let filter = format!("sport = :{port}");
        let arguments = ["--tcp", "--info", "--numeric", "--no-header", "--oneline", "state", "established"];
        let text = output(command("ss", &arguments).arg(filter))?;
        Ok(Self(text.lines().filter_map(link).collect()))
    }

    /// The bytes since an earlier look.
    ///
    /// # Errors
    /// A link of then is not there any more, and what it carried is not known.
    pub(super) fn since(&self, earlier: &Self) -> Result<u64> {
        let gone = earlier.0.keys().find(|link| !self.0.contains_key(*link));
        ensure!(gone.is_none(), "the link from {} broke meanwhile", gone.map_or("", |link| link));
        let of = |link: &str| earlier.0.get(link).copied().unwrap_or(0);
        Ok(self.0.iter().map(|(link, bytes)| bytes - of(link)).sum())
    }

    /// How many there are.
    ///
    /// # Errors
    /// There are none.
    pub(super) fn expect_some(self) -> Result<Self> {
        ensure!(!self.0.is_empty(), "ss shows no link");
        Ok(self)
    }
}

/// Where a connection comes from, and what was acknowledged and received on it.
fn link(line: &str) -> Option<(String, u64)> {
    // With a state asked for, there is no column for it: queues, own address, that of the other end.
    let peer = line.split_whitespace().nth(3)?.to_owned();
    let field = |label: &str| -> Option<u64> {
        line.split_whitespace().find_map(|word| word.strip_prefix(label))?.parse().ok()
    };
    // A connection that carried nothing one way has no such word.
    let both = field("bytes_acked:").unwrap_or(0) + field("bytes_received:").unwrap_or(0);
    Some((peer, both)).filter(|(peer, _)| peer.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_counted_and_a_link_that_broke_is_found_out() {
        let line = "0      0      127.0.0.1:7025   127.0.0.1:40412 cubic wscale:7,7 rto:204 bytes_sent:900 bytes_acked:900 \
                    bytes_received:10240 segs_out:9";
        assert_eq!(link(line), Some(("127.0.0.1:40412".into(), 11_140)));
        let look = |links: &[(&str, u64)]| Links(links.iter().map(|(l, b)| ((*l).to_owned(), *b)).collect());
        let earlier = look(&[("a", 100)]);
        assert_eq!(look(&[("a", 150), ("b", 7)]).since(&earlier).unwrap(), 57);
        assert!(look(&[("b", 7)]).since(&earlier).is_err());
    }
}
