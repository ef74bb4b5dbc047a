#!/usr/bin/env bash
# Builds a Debian package from what `make install` installs: scripts/deb.sh BINARY OUTPUT_FOLDER. Prints the package's path.
# Needs dpkg-dev and binutils. Builds are reproducible: all dates are SOURCE_DATE_EPOCH or that of the last commit.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$(realpath "$1") output=$(realpath -m "$2")

for program in dpkg-deb dpkg-shlibdeps strip; do
    command -v "$program" >/dev/null || { echo "deb: $program is missing: install dpkg-dev and binutils" >&2; exit 1; }
done
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
maintainer=${DEB_MAINTAINER:-btsync authors <btsync@localhost>}
architecture=$(dpkg --print-architecture)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/tree doc=$work/tree/usr/share/doc/btsync
umask 022
make --no-print-directory install BIN="$binary" PREFIX=/usr DESTDIR="$root" >/dev/null
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/btsync"

# Names and compression that Debian policy requires.
gzip -9n "$root/usr/share/man/man1/btsync.1" "$doc/CHANGELOG.md"
mv "$doc/CHANGELOG.md.gz" "$doc/NEWS.md.gz"
rm "$doc"/LICENSE-*
{
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: btsync\n\n'
    printf 'Files: *\nCopyright: 2026 the btsync authors\nLicense: Expat or Apache-2.0\n\nLicense: Expat\n'
    sed -n '/^Permission/,$ { s/^$/./; s/^/ /; p }' LICENSE-MIT
    printf '\nLicense: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n'
} >"$doc/copyright"
{
    printf 'btsync (%s) unstable; urgency=medium\n\n  * What has changed is in NEWS.md.\n\n' "$version"
    printf ' -- %s  %s\n' "$maintainer" "$(date -R -u -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$doc/changelog.gz"

# dpkg-shlibdeps finds the packages of the libraries that the program links to. It requires this file.
mkdir -p "$work/debian" "$root/DEBIAN"
printf 'Source: btsync\n\nPackage: btsync\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O tree/usr/bin/btsync 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
cat >"$root/DEBIAN/control" <<END
Package: btsync
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -k -s --apparent-size "$root/usr" | cut -f 1)
Depends: $depends
Section: net
Priority: optional
Description: BitTorrent client for the command line
 One command without a daemon: it downloads a torrent file or a magnet link,
 verifies the data and exits, or continues to seed. It finds peers through
 trackers, the DHT, local discovery and peer exchange. It also creates and
 edits torrents, and runs a small tracker for a closed network.
END
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
chmod 644 "$root/DEBIAN"/*
find "$root" -print0 | xargs -0 touch --no-dereference --date="@$SOURCE_DATE_EPOCH"

mkdir -p "$output"
package=$output/btsync_${version}_$architecture.deb
dpkg-deb --root-owner-group --uniform-compression -Zxz --build "$root" "$package" >/dev/null
printf '%s\n' "$package"
