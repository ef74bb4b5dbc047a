#!/usr/bin/env bash
# Makes the certificates of tests/network/tls.rs: a CA that no system trusts, and with it that of a server at 127.0.0.1 and localhost. They
# last for a hundred years; the CA's key is thrown away. Needs openssl; the files it makes are part of the repository.
set -euo pipefail
cd "$(dirname "$0")"
key=$(mktemp)
trap 'rm -f "$key" request.pem' EXIT
new_key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
new_key "$key"
openssl req -x509 -new -key "$key" -days 36500 -subj "/CN=btsync test CA" -out ca.pem \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign"
new_key server-key.pem
openssl req -new -key server-key.pem -subj "/CN=btsync test server" -out request.pem
openssl x509 -req -in request.pem -CA ca.pem -CAkey "$key" -days 36500 -out server.pem \
    -extfile <(printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=critical,CA:FALSE\n')
