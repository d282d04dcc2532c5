#!/bin/sh
# Checks that every dependency has a licence that deny.toml allows and comes from a
# registry, not from a git repository or another directory. Offline:
# known vulnerabilities are what `cargo deny check advisories` is for, where there is a network.
set -eu
cd "$(dirname "$0")/.."

if command -v cargo-deny >/dev/null; then
    exec cargo deny --offline --locked check licenses bans sources
fi
host=$(rustc -vV | sed -n 's/^host: //p')
cargo metadata --locked --format-version 1 --filter-platform "$host" | python3 -c '
import json, re, sys

allow = re.search(r"^allow = \[(.*)\]", open("deny.toml").read(), re.M).group(1)
allowed = set(re.findall("\"([^\"]+)\"", allow))

def acceptable(expression):
    """Evaluates a licence expression: its names become True or False, its operators are Python."""
    words = {"AND": "and", "OR": "or", "/": " or ", "(": "(", ")": ")"}
    parts = re.findall(r"[()/]|[\w.+-]+(?: WITH [\w.+-]+)?", expression)
    return eval(" ".join(words.get(part, str(part in allowed)) for part in parts))

wrong = 0
for package in json.load(sys.stdin)["packages"]:
    name, source, licence = package["name"], package["source"], package["license"]
    if source and not source.startswith("registry+"):
        print(f"{name} comes from {source}")
    elif not licence or not acceptable(licence):
        print(f"{name} has the licence {licence}, which deny.toml does not allow")
    else:
        continue
    wrong += 1
sys.exit(f"{wrong} dependencies are not acceptable" if wrong else 0)
'
