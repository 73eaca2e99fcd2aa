#!/bin/sh
# Checks licences, sources and banned crates; and known advisories where a database of them is at hand, for the check must
# not depend on the network. ADVISORY_DB names an archive of https://github.com/RustSec/advisory-db.
set -eu
cargo deny check bans licenses sources
archive=${ADVISORY_DB:-../shared/advisory-db.tar.gz}
if [ ! -f "$archive" ]; then
    echo "deny: SKIPPED advisories: there is no $archive; set ADVISORY_DB to an archive of RustSec's advisory-db"
    exit 0
fi
folder=$(pwd)/target/advisories
# The name under which cargo-deny keeps the database of its default address.
database=$folder/advisory-db-3157b0e258782691
rm -rf "$folder"
mkdir -p "$database"
tar xzf "$archive" -C "$database"
(
    cd "$database"
    git init -q
    git add -A
    git -c user.name=deny -c user.email=deny@localhost commit -q -m database
    git rev-parse HEAD > .git/FETCH_HEAD
)
sed "s|^\[advisories\]|[advisories]\ndb-path = \"$folder\"|" deny.toml > "$folder/deny.toml"
cargo deny --offline --config "$folder/deny.toml" check advisories
