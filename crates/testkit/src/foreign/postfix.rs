//! Postfix with Debian's defaults.

use super::{Recipe, Wishes};

pub(super) fn recipe(wishes: &Wishes) -> Recipe {
    let Wishes { listen, next_hop } = wishes;
    let relay = format!("relayhost = [{}]:{}\n", next_hop.ip(), next_hop.port());
    let services = format!("{listen} inet n - y - - smtpd\n{SERVICES}");
    Recipe {
        package: "postfix",
        files: vec![
            ("etc/postfix/main.cf", MAIN.to_owned() + &relay),
            ("etc/postfix/master.cf", services),
            ("etc/postfix/refused", "/^no/ REJECT no such user\n".into()),
        ],
        users: &[("postfix", 64001), ("postdrop", 64002)],
        disk: &["var/spool/postfix"],
        start: START,
    }
}

const MAIN: &str = "\
compatibility_level = 3.6
myhostname = postfix.example
mydestination = localhost
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
inet_protocols = ipv4
smtp_tls_security_level = none
smtpd_tls_security_level = none
disable_dns_lookups = yes
smtp_host_lookup = native
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks reject
smtpd_recipient_restrictions = check_recipient_access regexp:/etc/postfix/refused, permit_mynetworks
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
smtpd_error_sleep_time = 0
maillog_file = /var/log/mail.log
";

/// The services of Debian's `master.cf` that a relay uses.
const SERVICES: &str = "\
pickup    unix  n       -       y       60      1       pickup
cleanup   unix  n       -       y       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       y       -       -       trivial-rewrite
bounce    unix  -       -       y       -       0       bounce
defer     unix  -       -       y       -       0       bounce
trace     unix  -       -       y       -       0       bounce
smtp      unix  -       -       y       -       -       smtp
relay     unix  -       -       y       -       -       smtp
error     unix  -       -       y       -       -       error
retry     unix  -       -       y       -       -       error
proxymap  unix  -       -       n       -       -       proxymap
anvil     unix  -       -       y       -       1       anvil
scache    unix  -       -       y       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
";

const START: &str = "\
set -eu
chown 64001:64001 /var/lib/postfix
/usr/sbin/postfix check
exec /usr/lib/postfix/sbin/master -d -c /etc/postfix
";
