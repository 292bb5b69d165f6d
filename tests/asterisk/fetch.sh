#!/usr/bin/env bash
# Fetches a real Asterisk from Debian's packages, for the tests to run. No root, no chroot: apt resolves, downloads and
# checks signatures in a state folder of its own, dpkg-deb unpacks, the tree's own dynamic linker runs what is in it.
#   fetch.sh VERSION FOLDER    VERSION is 22 or 16; FOLDER becomes the tree, with a launcher `asterisk` at its top.
# Does nothing when it is there. Taken over from the recipe of the captures in fixtures/ami and changed.
set -euo pipefail

main() {
    [ $# -eq 2 ] || { echo "usage: fetch.sh 22|16 FOLDER" >&2; exit 2; }
    version=$1
    folder=$2
    case $version in
        22) suites="forky sid" ;;
        16) suites=bullseye ;;
        *) fail "which Debian suite has it is not known" ;;
    esac
    mkdir -p "$(dirname "$folder")"
    folder=$(cd "$(dirname "$folder")" && pwd)/$(basename "$folder")
    # Two runs at once would unpack over one another.
    exec 9>"$folder.lock"
    flock 9
    [ ! -x "$folder/asterisk" ] || return 0
    echo "fetching Asterisk $version into $folder"
    needs
    work=$folder.new
    rm -rf "$work"
    mkdir -p "$work"
    trap 'rm -rf "$work"' EXIT
    local suite
    for suite in $suites; do
        if download "$suite" && unpack && launcher && runs; then
            mv "$work/root" "$folder"
            return 0
        fi
        echo "Debian's $suite: no Asterisk $version that runs here" >&2
    done
    fail "see the messages above"
}

needs() {
    local program
    for program in apt-get dpkg-deb tar; do
        command -v "$program" >/dev/null 2>&1 || fail "$program is missing, so Debian's packages can't be unpacked here"
    done
    [ -r "$keyring" ] || fail "$keyring is missing (package debian-archive-keyring); without it nothing can be checked"
    # The mirror is whatever this machine's apt uses for Debian already.
    if [ -z "${MIRROR:-}" ]; then
        MIRROR=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sort -u | grep -E '/debian/?$' | head -1) ||
            fail "apt knows no Debian mirror; name one in MIRROR"
    fi
}

download() {
    local suite=$1 state=$work/apt
    rm -rf "$state" "$work/root"
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/debs"
    : >"$state/status"
    echo "deb [signed-by=$keyring] $MIRROR $suite main" >"$state/sources.list"
    local options=(-qq -o Dir::State="$state" -o Dir::State::lists="$state/lists" -o Dir::State::status="$state/status"
        -o Dir::Cache="$state/cache" -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Acquire::Languages=none -o Acquire::Retries=3 -o Acquire::Check-Valid-Until=false
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
        -o Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled=false
        -o APT::Sandbox::User= -o APT::Update::Post-Invoke= -o APT::Update::Post-Invoke-Success= -o Debug::NoLocking=1)
    apt-get "${options[@]}" update >/dev/null || return 1
    apt-get "${options[@]}" -s --no-install-recommends install asterisk >"$state/plan" || return 1
    local skip=$unused
    # Its libxml2 needs ICU.
    [ "$suite" != bullseye ] || skip=${skip/libicu.\*|/}
    local packages
    mapfile -t packages < <(awk '/^Inst/{print $2}' "$state/plan" | grep -Ev "$skip")
    (cd "$state/debs" && apt-get "${options[@]}" download "${packages[@]}" asterisk-moh-opsound-gsm)
}

unpack() {
    local root=$work/root deb
    mkdir -p "$root"/usr/{lib,lib64,bin,sbin}
    ln -s usr/lib "$root/lib"
    ln -s usr/lib64 "$root/lib64"
    ln -s usr/bin "$root/bin"
    ln -s usr/sbin "$root/sbin"
    for deb in "$work"/apt/debs/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --no-same-owner --keep-directory-symlink \
            --exclude='./usr/share/doc*' --exclude='./usr/share/man*' --exclude='./usr/share/locale*' \
            --exclude='./usr/share/zoneinfo*' --exclude='./usr/lib/*/gconv*' || return 1
    done
    [ -e "$root/usr/share/asterisk/sounds/en" ] || ln -s en_US_f_Allison "$root/usr/share/asterisk/sounds/en"
}

# A program that starts this tree's Asterisk with this tree's libraries, wherever the tree stands.
launcher() {
    local root=$work/root linker libraries
    linker=$(cd "$root" && ls -d usr/lib64/ld-linux-*.so.* usr/lib/ld-linux-*.so.* usr/lib/*/ld-linux-*.so.* usr/lib/*/ld-2*.so \
        2>/dev/null | head -1) || true
    libraries=$(cd "$root" && ls -d usr/lib/*-linux-gnu | head -1) || return 1
    [ -n "$linker" ] || return 1
    cat >"$root/asterisk" <<LAUNCHER
#!/bin/sh
root=\$(dirname "\$0")
exec "\$root/$linker" --library-path "\$root/$libraries:\$root/usr/lib" "\$root/usr/sbin/asterisk" "\$@"
LAUNCHER
    chmod +x "$root/asterisk"
    # Asterisk's modules, where every tree has them.
    local modules
    modules=$(cd "$root" && ls -d usr/lib/*/asterisk/modules usr/lib/asterisk/modules 2>/dev/null | head -1) || true
    [ -n "$modules" ] && ln -s "$modules" "$root/modules"
}

runs() {
    "$work/root/asterisk" -V | grep -q "^Asterisk $version\."
}

fail() {
    echo "Asterisk $version can't be fetched: $*" >&2
    exit 1
}

keyring=${KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}

# What Asterisk's packages drag in and the modules that the tests load never open.
unused='^(gnupg.*|gpg.*|dirmngr|pinentry.*|perl.*|libperl.*|libgdbm.*|adduser|passwd|debconf|libdebconf.*|login.defs|base-passwd|tzdata|pci\.ids|libpci3|libsensors.*|libsnmp.*|libicu.*|libc-gconv.*|libasound2-data|readline-common|.*jack.*|libportaudio2|libsemanage.*|libsepol.*|libaudit.*|libpam.*|libgpgme.*|libgmime.*|libksba.*|libassuan.*|libnpth.*|libiksemel.*|libsybdb5|freetds.*|libpq5|libradcli4|libspandsp.*|libtiff.*|libwebp.*|libsharpyuv0|libjbig0|libjpeg.*|libdeflate0|liblerc4|libnss3|libnspr4|libneon.*|libical.*|liblua.*|libcodec2.*|dpkg|tar|init-system-helpers|gcc-.*-base|lsb-base|gpgv|libpcre3.*|libnl-.*)$'

main "$@"
