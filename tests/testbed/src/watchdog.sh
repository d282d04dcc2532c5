# Ends what works in directory $1 and removes it, once standard input closes: when the owner lets go,
# or is killed in whatever way. Signal $2 asks first; SIGKILL follows.
trap '' HUP INT QUIT TERM
cat >/dev/null

working_here() {
    find /proc/[0-9]*/cwd -maxdepth 0 -lname "$1*" 2>/dev/null | cut -d/ -f3
}

# A stopped process hears nothing but SIGKILL until it continues.
signal_all() {
    pids=$(working_here "$1")
    for pid in $pids; do
        kill -s "$2" "$pid" 2>/dev/null
        kill -s CONT "$pid" 2>/dev/null
    done
}

signal_all "$1" "$2"
tries=0
while [ -n "$(working_here "$1")" ]; do
    tries=$((tries + 1))
    [ $tries -lt 60 ] || signal_all "$1" KILL
    sleep 0.05
done
# The small System V segment of a PostgreSQL that was killed hard stays unless its next start finds it.
for lock in "$1"/*/postmaster.pid; do
    [ ! -e "$lock" ] || ipcrm -m "$(sed -n '7s/.* //p' "$lock")" 2>/dev/null
done
rm -rf "$1"
