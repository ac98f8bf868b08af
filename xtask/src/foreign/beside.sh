# Runs an unpacked mail server as if it were installed, without installing it: in a mount namespace of its own, the
# machine's system with the server laid over it in memory, and what it keeps on disk. The namespace ends with it.
# Arguments: unpacked root; what is laid over both, with `start`, a script that becomes the server; a folder with
# `view`, and with `disk`, whose folders appear at the same place in the view.
set -eu
unpacked=$1 configuration=$2 folder=$3
view=$folder/view

mount -t tmpfs tmpfs "$view"
mkdir "$view/upper" "$view/work" "$view/root"
cp -a "$unpacked/." "$configuration/." "$view/upper/"
(cd "$folder/disk" && find . -type d) | while read -r place; do mkdir -p "$view/upper/$place"; done
mount -t overlay overlay -o "lowerdir=/,upperdir=$view/upper,workdir=$view/work" "$view/root"

cd "$view/root"
(cd "$folder/disk" && find . -type d -empty) | while read -r place; do mount --bind "$folder/disk/$place" "$place"; done
mount --rbind /dev dev
mount -t proc proc proc
exec chroot . sh /start
