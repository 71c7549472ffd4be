#!/bin/sh
# Follows a Dockerfile here without Docker: its COPY and RUN lines, in a clean Debian root; then COMMAND as its USER.
# Needs root and debootstrap. ROOT_CACHE=FILE.tar keeps the bare Debian for the next time.
#
#   prove.sh cpu.Dockerfile [COMMAND …]      without one: rhoflow --help
set -eu
file=$(realpath "$1"); shift
[ $# -gt 0 ] || set -- rhoflow --help
project=$(realpath "$(dirname "$0")/../..")
root=$(mktemp -d /var/tmp/rhoflow-image.XXXXXX)
trap 'rm -rf "$root"' EXIT

cache=${ROOT_CACHE:-}
if [ -n "$cache" ] && [ -f "$cache" ]; then
    tar -C "$root" -xf "$cache"
else
    debootstrap --variant=minbase bookworm "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$root.log" 2>&1 || { tail "$root.log"; exit 1; }
    rm -f "$root.log"
    [ -z "$cache" ] || tar -C "$root" -cf "$cache" .
fi
# The way out of this machine, as Docker would lend it: names, and the authorities that are trusted here.
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/lent.pem"

inside() {
    chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
        PIP_CERT=/etc/lent.pem "$@"
}

while read -r word rest; do
    case $word in
    RUN) echo "RUN $rest"; inside sh -eu -c "$rest" >"$root/run.log" 2>&1 || { tail -n 60 "$root/run.log"; exit 1; } ;;
    COPY) target=${rest##* }; for name in ${rest% *}; do
              mkdir -p "$root/$(dirname "$target/")"
              case $target in */) mkdir -p "$root$target"; cp "$project/$name" "$root$target" ;;
                                *) mkdir -p "$root$(dirname "$target")"; cp -r "$project/$name" "$root$target" ;; esac
          done ;;
    USER) user=$rest ;;
    ENV) settings=$rest ;;
    esac
done <"$file"
du -sh --apparent-size "$root" | sed "s|$root|in all|"
# shellcheck disable=SC2086
chroot --userspec="$user:$user" "$root" /usr/bin/env -i HOME=/home/rhoflow $settings sh -c 'cd /data && exec "$@"' sh "$@"
