# Runs an unpacked Postfix as if it were installed, without installing it: in a mount namespace of its own, the
# machine's system with Postfix laid over it, and spool and log on disk. The namespace ends with it.
# Arguments: unpacked root, configuration to lay over both, folder with `spool`, `log` and `view`.
set -eu
unpacked=$1 configuration=$2 folder=$3
view=$folder/view

mount -t tmpfs tmpfs "$view"
mkdir "$view/upper" "$view/work" "$view/root"
cp -a "$unpacked/." "$configuration/." "$view/upper/"
chown 64001:64001 "$view/upper/var/lib/postfix"
mkdir -p "$view/upper/var/log"
mount -t overlay overlay -o "lowerdir=/,upperdir=$view/upper,workdir=$view/work" "$view/root"

cd "$view/root"
mount --bind "$folder/spool" var/spool/postfix
mount --bind "$folder/log" var/log
mount --rbind /dev dev
mount -t proc proc proc
chroot . /usr/sbin/postfix check

# What Debian's start script copies for services that it runs in a chroot.
mkdir -p var/spool/postfix/etc
for file in hosts host.conf localtime nsswitch.conf resolv.conf services; do
    [ ! -e "etc/$file" ] || cp -L "etc/$file" var/spool/postfix/etc/
done
exec chroot . /usr/lib/postfix/sbin/master -d -c /etc/postfix
