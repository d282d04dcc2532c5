#!/bin/bash
# Installs the Debian package that `make deb` built, starts the program as its user, installs it again, removes and purges
# it, in a copy of this system that is thrown away. Needs root, for mounts in a namespace of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
package=$(find target/debian -name 'pgfanout_*.deb' | sort -V | tail -1)
[ -n "$package" ] || { echo "tests/package.sh: there is no package: make deb" >&2; exit 1; }

if [ "${1:-}" != inside ]; then
    [ "$(id -u)" = 0 ] || { echo "tests/package.sh: needs root" >&2; exit 1; }
    exec unshare --mount "$0" inside
fi

root=$(mktemp -d)
mount -t tmpfs tmpfs "$root"
mkdir "$root/written" "$root/work" "$root/system"
mount -t overlay overlay -o "lowerdir=/,upperdir=$root/written,workdir=$root/work" "$root/system"
mount -t proc proc "$root/system/proc"
mount --bind /dev "$root/system/dev"
cp "$package" "$root/system/pgfanout.deb"
chroot "$root/system" bash -euo pipefail <<'END'
fail() { echo "FAILED: $*" >&2; exit 1; }
unit=/etc/systemd/system/multi-user.target.wants/pgfanout.service
config=/etc/pgfanout/pgfanout.toml
as() { su -s /bin/sh "$1" -c "$2"; }
dpkg -i /pgfanout.deb
[ -L "$unit" ] || fail "the unit is not enabled"
as pgfanout "test -r $config" || fail "its user cannot read the configuration"
! as nobody "test -r $config" || fail "everybody can read the configuration"
cat >"$config" <<'TOML'
[primary]
url = "postgres://x@127.0.0.1:1/x"
[[replica]]
name = "a"
url = "postgres://x@127.0.0.1:1/y"
TOML
# Nobody answers: it starts, and waits.
said=$(as pgfanout "timeout -s TERM 3 /usr/bin/pgfanout run --config $config" 2>&1 || true)
grep -q '"event":"started"' <<<"$said" || fail "it does not start: $said"
grep -q '"event":"stopped"' <<<"$said" || fail "it does not end: $said"
DEBIAN_FRONTEND=noninteractive dpkg -i /pgfanout.deb
grep -q 127.0.0.1 "$config" || fail "an upgrade loses the configuration"
dpkg -r pgfanout
[ ! -e /usr/bin/pgfanout ] && [ -e "$config" ] || fail "removal removes too little or too much"
dpkg -P pgfanout
rm /pgfanout.deb
left=$(find /etc /usr /lib /var -name '*pgfanout*')
[ -z "$left" ] || fail "this is left: $left"
echo "the package installs, starts, is upgraded, and goes"
END
umount -R "$root"
rmdir "$root"
