//! Exim 4 as a relay.

use super::{Recipe, Wishes};

pub(super) fn recipe(wishes: &Wishes) -> Recipe {
    let Wishes { listen, next_hop } = wishes;
    let configuration = CONFIGURATION
        .replace("@LISTEN@", &format!("{}.{}", listen.ip(), listen.port()))
        .replace("@HOST@", &next_hop.ip().to_string())
        .replace("@PORT@", &next_hop.port().to_string());
    Recipe {
        package: "exim4-daemon-light",
        files: vec![("etc/exim4/exim4.conf", configuration)],
        users: &[("Debian-exim", 64003)],
        disk: &["var/spool/exim4"],
        start: START,
    }
}

const CONFIGURATION: &str = "\
primary_hostname = exim.example
local_interfaces = @LISTEN@
hostlist relay_from_hosts = 127.0.0.0/8
acl_smtp_rcpt = acl_rcpt
acl_smtp_data = acl_data
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
smtputf8_advertise_hosts = *
message_size_limit = 50M
log_file_path = /var/log/exim4/%s.log
remote_max_parallel = 5
never_users =
begin acl
acl_rcpt:
  deny local_parts = ^no
       message = no such user
  accept hosts = +relay_from_hosts
acl_data:
  accept
begin routers
next:
  driver = manualroute
  transport = next_hop
  route_list = * @HOST@
  self = send
begin transports
next_hop:
  driver = smtp
  port = @PORT@
  allow_localhost
  hosts_avoid_tls = *
begin retry
* * F,2h,2s
";

const START: &str = "\
set -eu
mkdir -p /var/log/exim4 /var/spool/exim4/input /var/spool/exim4/msglog /var/spool/exim4/db
chown -R 64003:64003 /var/spool/exim4 /var/log/exim4
chown root:root /etc/exim4 /etc/exim4/exim4.conf
exec /usr/sbin/exim4 -C /etc/exim4/exim4.conf -bdf -q1m
";
