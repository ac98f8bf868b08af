//! OpenSMTPD as a relay.

use super::{Recipe, Wishes};

pub(super) fn recipe(wishes: &Wishes) -> Recipe {
    let Wishes { listen, next_hop } = wishes;
    let configuration = format!(
        "listen on {} port {} hostname opensmtpd.example\n\
         table refused {{ \"^no\" }}\n\
         action next relay host smtp://{next_hop}\n\
         match from any rcpt-to regex <refused> for any reject\n\
         match from any for any action next\n",
        listen.ip(),
        listen.port(),
    );
    Recipe {
        package: "opensmtpd",
        files: vec![("etc/smtpd.conf", configuration)],
        users: &[("opensmtpd", 64004), ("opensmtpq", 64005)],
        disk: &["var/spool/smtpd"],
        start: START,
    }
}

const START: &str = "\
set -eu
chmod 711 /var/spool/smtpd
chown root:root /var/lib/opensmtpd /var/lib/opensmtpd/empty
exec /usr/sbin/smtpd -d -f /etc/smtpd.conf
";
