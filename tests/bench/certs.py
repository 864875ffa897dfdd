"""Certificates for one run: an authority, a server and a client, EC P-256, with SPIFFE ids.

The DNS name beside the id is for the proxies that check a name and know no SPIFFE."""

import subprocess

TRUST_DOMAIN = "cluster.local"
SERVER_NAME = "server.bench"


def spiffe_id(account):
    return f"spiffe://{TRUST_DOMAIN}/ns/bench/sa/{account}"


def _openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def _key(path):
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)


def make(folder):
    """Writes ca.pem, and for server and client NAME.pem, NAME.key and NAME.both into the folder."""
    _key(f"{folder}/ca.key")
    _openssl("req", "-x509", "-new", "-key", f"{folder}/ca.key", "-days", "1", "-subj", "/CN=bench",
             "-addext", "keyUsage=critical,keyCertSign", "-out", f"{folder}/ca.pem")
    for name in ("server", "client"):
        base = f"{folder}/{name}"
        _key(f"{base}.key")
        with open(f"{base}.ext", "w", encoding="utf-8") as file:
            file.write(f"subjectAltName=critical,URI:{spiffe_id(name)},DNS:{name}.bench\n"
                       "keyUsage=critical,digitalSignature\n"
                       "extendedKeyUsage=serverAuth,clientAuth\n")
        _openssl("req", "-new", "-key", f"{base}.key", "-subj", f"/CN={name}", "-out", f"{base}.csr")
        _openssl("x509", "-req", "-in", f"{base}.csr", "-CA", f"{folder}/ca.pem", "-CAkey",
                 f"{folder}/ca.key", "-CAcreateserial", "-days", "1", "-extfile", f"{base}.ext",
                 "-out", f"{base}.pem")
        with open(f"{base}.both", "w", encoding="utf-8") as both:
            for part in ("pem", "key"):
                with open(f"{base}.{part}", encoding="utf-8") as file:
                    both.write(file.read())
