#!/bin/sh
# An authority and one certificate for a Dask cluster: ca.pem, certificate.pem and key.pem, the last to be read by you alone.
#
#   certificates.sh DIR [DAYS]    DIR must be seen by every node; whoever can read key.pem may run code on the cluster
set -eu
[ $# -ge 1 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
days=${2:-365}
umask 077
mkdir -p "$1"
cd "$1"
curve='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
# shellcheck disable=SC2086
openssl req -x509 $curve -keyout ca.key -out ca.pem -days "$days" -subj '/CN=rhoflow authority' 2>/dev/null
# shellcheck disable=SC2086
openssl req $curve -keyout key.pem -out request.pem -subj '/CN=rhoflow' 2>/dev/null
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out certificate.pem -days "$days" 2>/dev/null
rm -f request.pem ca.key ca.srl      # nobody can make another certificate for this cluster
