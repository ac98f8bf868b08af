# Starts Postfix; run in its view of the machine.
set -eu
chown 64001:64001 /var/lib/postfix
/usr/sbin/postfix check

# What Debian's start script copies for services that it runs in a chroot.
mkdir -p /var/spool/postfix/etc
for file in hosts host.conf localtime nsswitch.conf resolv.conf services; do
    [ ! -e "/etc/$file" ] || cp -L "/etc/$file" /var/spool/postfix/etc/
done
exec /usr/lib/postfix/sbin/master -d -c /etc/postfix
