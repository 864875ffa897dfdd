"""How each server is started in a folder of its own, on any address, beside whatever else of its
kind runs on the machine: the packages' own services and settings are not touched.

A recipe writes what the server wants to read into the folder, and says what to run. Whoever runs it
gives the folder to the user that runs it: PostgreSQL and MariaDB refuse to be root."""

import dataclasses
import glob
import os


@dataclasses.dataclass
class Recipe:
    """prepare: commands that end by themselves; run: those that stay, the server last; said: what
    the server says when it takes connections."""
    run: list
    said: str
    prepare: list = dataclasses.field(default_factory=list)
    env: dict = dataclasses.field(default_factory=dict)


def _write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o644)
    return path


def redis(folder, host, port):
    return Recipe(
        run=[["redis-server", "--bind", host, "--port", port, "--dir", folder, "--save", "",
              "--appendonly", "no", "--protected-mode", "no"]],
        said="Ready to accept connections")


def postgres_programs():
    """Debian has them in a folder for each version."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: float(p.split("/")[-2]))
    return found[-1] if found else None


def postgresql(folder, host, port):
    """Its superuser is `app`; with TLS of its own for those who want it, by cert.pem."""
    programs = postgres_programs()
    allowed = _write(f"{folder}/pg_hba.conf", "host all app all trust\n")
    cert, key = f"{folder}/cert.pem", f"{folder}/key.pem"
    return Recipe(
        prepare=[["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                  "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=postgresql",
                  "-addext", f"subjectAltName=DNS:postgresql,IP:127.0.0.1,IP:{host}"],
                 [f"{programs}/initdb", "-D", f"{folder}/data", "-U", "app", "-A", "trust",
                  "--no-sync", "--no-locale", "-E", "UTF8"]],
        run=[[f"{programs}/postgres", "-D", f"{folder}/data", "-k", folder, "-p", port,
              "-c", f"listen_addresses={host}", "-c", f"hba_file={allowed}", "-c", "fsync=off",
              "-c", "ssl=on", "-c", f"ssl_cert_file={cert}", "-c", f"ssl_key_file={key}"]],
        said="database system is ready to accept connections")


def mariadb(folder, host, port):
    """With a database and a user `app`, without a password."""
    begin = _write(f"{folder}/begin.sql",
                   "CREATE DATABASE app;\nCREATE USER app@'%';\nGRANT ALL ON app.* TO app@'%';\n")
    small = ["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M",
             "--innodb-use-native-aio=0", "--innodb-flush-log-at-trx-commit=0"]
    return Recipe(
        prepare=[["mariadb-install-db", "--no-defaults", f"--datadir={folder}/data", *small,
                  "--auth-root-authentication-method=normal", "--skip-test-db"]],
        run=[["mariadbd", "--no-defaults", f"--datadir={folder}/data", f"--bind-address={host}",
              f"--port={port}", f"--socket={folder}/socket", f"--pid-file={folder}/pid",
              "--skip-name-resolve", f"--init-file={begin}", *small]],
        said="ready for connections")


def rabbitmq(folder, host, port, epmd_port, dist_port):
    """Erlang's own port mapper is started beside it, where it can be stopped again, and not left to
    start itself and stay for ever. Its two other ports are on loopback."""
    settings = _write(f"{folder}/rabbitmq.conf", "loopback_users = none\n")
    return Recipe(
        run=[["epmd", "-address", "127.0.0.1", "-port", epmd_port],
             ["/usr/lib/rabbitmq/bin/rabbitmq-server"]],
        said="Server startup complete",
        env={"HOME": folder, "ERL_EPMD_PORT": str(epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
             "RABBITMQ_NODENAME": "app@localhost", "RABBITMQ_NODE_IP_ADDRESS": host,
             "RABBITMQ_NODE_PORT": str(port), "RABBITMQ_DIST_PORT": str(dist_port),
             "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia", "RABBITMQ_LOG_BASE": f"{folder}/log",
             "RABBITMQ_LOGS": "-", "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
             "RABBITMQ_CONFIG_FILE": settings,
             # The script becomes the server, so that its pid is the server's, ...
             "RABBITMQ_ALLOW_INPUT": "1",
             # ... which needs no terminal and does not spin while it waits.
             "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                 "-noinput -kernel inet_dist_use_interface {127,0,0,1} +sbwt none"})
