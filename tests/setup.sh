#!/bin/sh
# Installs the servers that `make test` and `make demo` start for themselves: PostgreSQL, RabbitMQ,
# PgBouncer, the Python AMQP client of the listener test and a linker for Rust. Only what is missing; nothing,
# and fast, where all is there. No service is started or enabled to be used: the tests run private
# servers on free ports.
#
#   tests/setup.sh               look, and install what is missing (as root, or through sudo)
#   tests/setup.sh PACKAGE...    install these (used for the step through sudo)
set -eu

policy=/usr/sbin/policy-rc.d
saved_policy=$policy.before-pgfanout
no_cluster=/etc/postgresql-common/createcluster.d/pgfanout-tests.conf

exists() { [ -e "$1" ]; }

# Prints the names of the packages whose files are not there.
missing_packages() {
    command -v cc >/dev/null || echo gcc libc6-dev
    exists /usr/lib/postgresql/*/bin/postgres && exists /usr/lib/postgresql/*/bin/pgbench ||
        echo postgresql
    # Part of the server's package on Debian and Ubuntu, a package of its own name elsewhere.
    exists /usr/share/postgresql/*/extension/hstore.control || echo postgresql-contrib
    exists /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server || echo rabbitmq-server
    exists /usr/sbin/pgbouncer || echo pgbouncer
    exists /usr/lib/python3/dist-packages/pika || echo python3-pika
    command -v find >/dev/null || echo findutils
    command -v python3 >/dev/null || echo python3
}

# While packages are installed, policy-rc.d keeps their services from starting on ports that may be
# taken, and postgresql-common from making a cluster that nobody asked for.
forbid_services() {
    [ -e "$saved_policy" ] || [ ! -e "$policy" ] || mv "$policy" "$saved_policy"
    trap restore_services EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    mkdir -p "${no_cluster%/*}"
    echo 'create_main_cluster = false' >"$no_cluster"
}

restore_services() {
    rm -f "$policy" "$no_cluster"
    rmdir "${no_cluster%/*}" 2>/dev/null || : # there are others' files in it
    [ ! -e "$saved_policy" ] || mv "$saved_policy" "$policy"
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    forbid_services
    # Somebody else's apt (a fresh machine's unattended upgrade) is waited for.
    wait_for_lock='-o DPkg::Lock::Timeout=600'
    apt-get $wait_for_lock -qq update || echo "apt-get update failed: trying with the lists as they are" >&2
    apt-get $wait_for_lock -qq -y --no-install-recommends install "$@"
}

if [ $# -gt 0 ]; then
    install_packages "$@" </dev/null
    exit
fi

command -v cargo >/dev/null || {
    echo "pgfanout is built with Rust 1.88 or newer: install it (cargo is not on the PATH)" >&2
    exit 1
}
packages=$(missing_packages | tr '\n' ' ')
[ -n "$packages" ] || exit 0
if ! command -v apt-get >/dev/null; then
    echo "install these, under the names your system gives them: $packages" >&2
    exit 1
fi
echo "installing: $packages"
if [ "$(id -u)" = 0 ]; then
    sh "$0" $packages
elif command -v sudo >/dev/null; then
    sudo -- sh "$0" $packages
else
    echo "run as root: apt-get install --no-install-recommends $packages" >&2
    exit 1
fi
