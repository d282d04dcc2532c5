#!/bin/bash
# Runs every test of the workspace and ends with one line that says how many passed and failed. Fails
# if one failed, and if there were none to run, among the integration tests too.
set -uo pipefail
cd "$(dirname "$0")/.."

mkdir -p target
log=target/tests.log
# Proxies of faulty links hold many connections, and an ordinary user may have but 1024 files open by default.
ulimit -S -n 8192 2>/dev/null || ulimit -S -n "$(ulimit -H -n)"
# The tests wait for servers most of the time: more of them at once than there are cores.
cargo test --locked --workspace --no-fail-fast "$@" -- --test-threads=4 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

read -r passed failed integration < <(awk '
    /^ +Running / { integration = /tests\/integration\/main\.rs/ }
    /^running [0-9]+ tests?$/ && integration { tests += $2 }
    /^test result: / { passed += $4; failed += $6 }
    END { print passed + 0, failed + 0, tests + 0 }' "$log")

if [ "$passed" = 0 ] || [ "$integration" = 0 ]; then
    echo "tests/run.sh: no test ran, or no integration test"
    status=1
elif [ "$status" != 0 ] && [ "$failed" = 0 ]; then
    echo "tests/run.sh: a test program did not build or did not end well: see above"
fi
if [ "$failed" != 0 ]; then
    # Once more, for whoever sees only the end.
    awk '
        /^---- .* ----$/ { told = 1; lines = 0 }
        /^failures:$/ { told = 0 }
        told && lines++ < 30 { print substr($0, 1, 800) }' "$log"
fi
echo "$passed passed, $failed failed"
exit "$status"
